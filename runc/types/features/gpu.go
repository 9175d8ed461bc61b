// SPDX-License-Identifier: Apache-2.0

package features

// AnnotationGPUUnifiedV1 lists, sorted and separated by commas, the keys of
// linux.resources.unified that this runtime takes on cgroup v1 as well. A
// runtime without the annotation refuses all of unified there.
const AnnotationGPUUnifiedV1 = "io.github.gpu-cgroup.unified-v1"

// AnnotationUpdateMany has the name of the command that updates any number of
// containers in one process.
const AnnotationUpdateMany = "io.github.gpu-cgroup.update-many"
