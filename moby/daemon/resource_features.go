// SPDX-License-Identifier: Apache-2.0

package daemon

// ResourceFeatures names the resources that this host can limit now, beyond
// what every daemon can: "gpu" for GPUPriority and GPUMemory with the default
// runtime, "blkio-limit" for BlkioReadLimit and its like, "net-class" for
// NetClassID and NetPriorities, "net-rate" for NetEgressRate and
// NetIngressRate. It may be empty.
func (daemon *Daemon) ResourceFeatures() []string {
	features := []string{}
	if daemon.canLimitGPU() {
		features = append(features, "gpu")
	}
	if daemon.canLimitBlkio() {
		features = append(features, "blkio-limit")
	}
	class, rate := daemon.canLimitNet()
	if class {
		features = append(features, "net-class")
	}
	if rate {
		features = append(features, "net-rate")
	}
	return features
}
