// SPDX-License-Identifier: Apache-2.0

package container

// CurrentResources is an element of what GET /containers/resources returns: the
// resources and the restart policy of a container, as its inspect has them.
type CurrentResources struct {
	// Name is what the request called it: a name, an ID, or how an ID begins.
	Name string
	ID   string `json:"Id"`
	UpdateConfig

	// ResourcesVersion is raised by each change of the above: see [UpdateOptions].
	ResourcesVersion uint64
}
