// SPDX-License-Identifier: Apache-2.0

package container

// Fields that Docker 29 does not have any more.
func init() {
	ResourceFields = append(ResourceFields,
		&ResourceField{Name: "KernelMemory", Ignored: true, Group: "memory", at: value(func(r *Resources) *int64 { return &r.KernelMemory })},
		&ResourceField{Name: "KernelMemoryTCP", Ignored: true, Fixed: true, at: value(func(r *Resources) *int64 { return &r.KernelMemoryTCP })},
	)
}
