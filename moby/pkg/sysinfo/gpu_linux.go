// SPDX-License-Identifier: Apache-2.0

package sysinfo

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	gpuController = "gpu"
	gpuDevices    = "gpu.devices"
	cgroupV2Root  = "/sys/fs/cgroup"
)

// applyGPUCgroupInfo fills in cgroupGPUInfo on a cgroup v1 host.
//
// A hierarchy that is merely named "gpu" is listed as one too ("name=gpu"), so
// a file that only the real controller has decides.
func applyGPUCgroupInfo(info *SysInfo) {
	mountPoint, mounted := info.cgMounts[gpuController]
	switch {
	case mounted && cgroupEnabled(mountPoint, "gpu.usage_in_bytes"):
		info.setGPUController("")
		info.GPUDevicesFile = filepath.Join(mountPoint, gpuDevices)
	case mounted:
		info.setGPUController("the cgroup v1 hierarchy at " + mountPoint + " is not the kernel's gpu controller (no gpu.usage_in_bytes); unmount it")
	default:
		info.setGPUController(gpuMissing(true))
	}
}

// applyGPUCgroupInfoV2 fills in cgroupGPUInfo on a cgroup v2 host.
func applyGPUCgroupInfoV2(info *SysInfo) {
	if _, ok := info.cg2Controllers[gpuController]; ok {
		info.setGPUController("")
		info.GPUDevicesFile = filepath.Join(cgroupV2Root, gpuDevices)
		return
	}
	info.setGPUController(gpuMissing(false))
}

func gpuMissing(v1 bool) string {
	f, err := os.Open("/proc/cgroups")
	if err != nil {
		return "cannot tell which cgroup controllers the kernel has: " + err.Error()
	}
	defer f.Close()
	return gpuMissingReason(f, v1)
}

// gpuMissingReason reads /proc/cgroups ("name hierarchy num_cgroups enabled")
// to tell a kernel without the controller from one where it is switched off or
// just not mounted.
func gpuMissingReason(procCgroups io.Reader, v1 bool) string {
	sc := bufio.NewScanner(procCgroups)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) != 4 || f[0] != gpuController {
			continue
		}
		switch {
		case f[3] != "1":
			return "the gpu cgroup controller is switched off; boot without cgroup_disable=gpu"
		case v1:
			return "the gpu cgroup controller is not mounted; run \"mkdir -p /sys/fs/cgroup/gpu && mount -t cgroup -o gpu gpu /sys/fs/cgroup/gpu\" and restart dockerd"
		default:
			return "the gpu cgroup controller is not available on cgroup v2 (is it mounted as a v1 hierarchy, or missing from the parent's cgroup.subtree_control?); release it and restart dockerd"
		}
	}
	return "this kernel has no gpu cgroup controller; boot a kernel built with CONFIG_CGROUP_GPU"
}
