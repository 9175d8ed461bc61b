// SPDX-License-Identifier: Apache-2.0

package daemon

const nvidiaHook = nvidiaContainerRuntimeHookExecutableName
