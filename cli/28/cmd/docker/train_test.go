// SPDX-License-Identifier: Apache-2.0

package main

// createPings tells whether a create fails when the ping does, whatever it asks for.
const createPings = false
