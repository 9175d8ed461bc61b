// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/cgroupfs"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// oneChange is one resource: what run sets, and what an update makes of it.
type oneChange struct {
	flag, before, after string
	fields              []string // of inspect that change
	v1, v2              []string // files of the cgroup that change, as FOLDER/FILE and FILE; none of them, if empty
	needs               string   // a file without which the kernel cannot do it
}

// Each resource that an update can change. CPU real-time is missing: dockerd
// stores it, but upstream never hands an update of it to the runtime.
var allChanges = []oneChange{
	{flag: "blkio-read-iops-limit", before: "400", after: "500", fields: []string{"BlkioReadIOpsLimit"}, v1: []string{"blkio/blkio.throttle.read_iops_device"}, v2: []string{"io.max"}},
	{flag: "blkio-read-limit", before: "64m", after: "80m", fields: []string{"BlkioReadLimit"}, v1: []string{"blkio/blkio.throttle.read_bps_device"}, v2: []string{"io.max"}},
	{flag: "blkio-write-iops-limit", before: "400", after: "500", fields: []string{"BlkioWriteIOpsLimit"}, v1: []string{"blkio/blkio.throttle.write_iops_device"}, v2: []string{"io.max"}},
	{flag: "blkio-write-limit", before: "64m", after: "80m", fields: []string{"BlkioWriteLimit"}, v1: []string{"blkio/blkio.throttle.write_bps_device"}, v2: []string{"io.max"}},
	{flag: "blkio-weight", before: "300", after: "400", fields: []string{"BlkioWeight"}, v1: []string{"blkio/blkio.weight"}, v2: []string{"io.weight", "io.bfq.weight"}, needs: "io.weight"},
	{flag: "cpu-period", before: "50000", after: "60000", fields: []string{"CpuPeriod"}, v1: []string{"cpu/cpu.cfs_period_us"}, v2: []string{"cpu.max"}},
	{flag: "cpu-quota", before: "20000", after: "30000", fields: []string{"CpuQuota"}, v1: []string{"cpu/cpu.cfs_quota_us"}, v2: []string{"cpu.max"}},
	{flag: "cpu-shares", before: "512", after: "256", fields: []string{"CpuShares"}, v1: []string{"cpu/cpu.shares"}, v2: []string{"cpu.weight", "cpu.weight.nice"}},
	{flag: "cpus", before: "0.5", after: "0.25", fields: []string{"NanoCpus"}, v1: []string{"cpu/cpu.cfs_quota_us"}, v2: []string{"cpu.max"}},
	{flag: "cpuset-cpus", before: "0-1", after: "1", fields: []string{"CpusetCpus"}, v1: []string{"cpuset/cpuset.cpus"}, v2: []string{"cpuset.cpus"}},
	{flag: "device-read-bps", before: "DISK:1mb", after: "DISK:2mb", fields: []string{"BlkioDeviceReadBps"}, v1: []string{"blkio/blkio.throttle.read_bps_device"}, v2: []string{"io.max"}},
	{flag: "device-read-iops", before: "DISK:100", after: "DISK:200", fields: []string{"BlkioDeviceReadIOps"}, v1: []string{"blkio/blkio.throttle.read_iops_device"}, v2: []string{"io.max"}},
	{flag: "device-write-bps", before: "DISK:1mb", after: "DISK:2mb", fields: []string{"BlkioDeviceWriteBps"}, v1: []string{"blkio/blkio.throttle.write_bps_device"}, v2: []string{"io.max"}},
	{flag: "device-write-iops", before: "DISK:100", after: "DISK:200", fields: []string{"BlkioDeviceWriteIOps"}, v1: []string{"blkio/blkio.throttle.write_iops_device"}, v2: []string{"io.max"}},
	{flag: "gpu-memory", before: "10240", after: "20480", fields: []string{"GPUMemory"}, v1: []string{"gpu/gpu.max_mem_in_bytes"}, v2: []string{"gpu.memory.max"}, needs: "gpu.memory.max"},
	{flag: "gpu-priority", before: "50", after: "-60", fields: []string{"GPUPriority"}, v1: []string{"gpu/gpu.priority"}, v2: []string{"gpu.priority"}, needs: "gpu.priority"},
	// On v2 swap has a limit of its own: what the total leaves.
	{flag: "memory", before: "64m", after: "96m", fields: []string{"Memory"}, v1: []string{"memory/memory.limit_in_bytes"}, v2: []string{"memory.max", "memory.swap.max"}},
	{flag: "memory-reservation", before: "32m", after: "48m", fields: []string{"MemoryReservation"}, v1: []string{"memory/memory.soft_limit_in_bytes"}, v2: []string{"memory.low"}},
	{flag: "memory-swap", before: "256m", after: "300m", fields: []string{"MemorySwap"}, v1: []string{"memory/memory.memsw.limit_in_bytes"}, v2: []string{"memory.swap.max"}, needs: "memory.swap.max"},
	// With --net-prio instead of the class it is TestNetClassAndPriorityOfABridgedContainer.
	{flag: "net-classid", before: "10:1", after: "10:3", fields: []string{"NetClassID"}},
	{flag: "net-egress-rate", before: "8mbit", after: "9mbit", fields: []string{"NetEgressRate"}},
	{flag: "net-egress-pps", before: "8000", after: "9000", fields: []string{"NetEgressPPS"}},
	{flag: "net-ingress-pps", before: "8000", after: "9000", fields: []string{"NetIngressPPS"}},
	{flag: "net-ingress-rate", before: "8mbit", after: "9mbit", fields: []string{"NetIngressRate"}},
	{flag: "pids-limit", before: "100", after: "133", fields: []string{"PidsLimit"}, v1: []string{"pids/pids.max"}, v2: []string{"pids.max"}},
}

// hostConfig is all of inspect's HostConfig.
func hostConfig(t *testing.T, d *daemon.Daemon, name string) map[string]string {
	t.Helper()
	var c struct{ HostConfig map[string]json.RawMessage }
	assert.NilError(t, json.Unmarshal(d.API(t, http.MethodGet, "/containers/"+name+"/json", "").Body, &c))
	all := map[string]string{}
	for name, value := range c.HostConfig {
		all[name] = string(value)
	}
	return all
}

func settingsOf(t *testing.T, g cgroupfs.Group) map[string]string {
	t.Helper()
	all, err := g.Settings()
	assert.NilError(t, err)
	return all
}

// differing lists the keys whose values are not the same.
func differing(a, b map[string]string) []string {
	keys := slices.Collect(maps.Keys(a))
	for key := range b {
		if _, ok := a[key]; !ok {
			keys = append(keys, key)
		}
	}
	keys = slices.DeleteFunc(keys, func(key string) bool {
		va, inA := a[key]
		vb, inB := b[key]
		return inA && inB && va == vb
	})
	slices.Sort(keys)
	return keys
}

// deviceRules tells whether the rules for devices were written, even if they
// come out the same, as far as the kernel lets one see it.
func deviceRules(t *testing.T, g cgroupfs.Group) string {
	t.Helper()
	dir, err := g.Dir("devices")
	assert.NilError(t, err)
	if text, err := os.ReadFile(filepath.Join(dir, "devices.list")); err == nil {
		return string(text)
	}
	ids, err := cgroupfs.DevicePrograms(dir)
	assert.NilError(t, err)
	assert.Assert(t, len(ids) > 0, "no program decides about the devices of %s", dir)
	return fmt.Sprint(ids)
}

// The GPU that the simulated hook hands in: a number under which there need not
// be a driver, as a forbidden device fails before one is looked for.
const hookDevice = "226 128"

// mayOpen tells whether the container may open the hook's device.
func mayOpen(t *testing.T, d *daemon.Daemon, name string) bool {
	t.Helper()
	r := d.Docker(t, "exec", name, "sh", "-c", "exec 3</tmp/hooked")
	return !strings.Contains(r.Stderr, "Operation not permitted")
}

// All resources are set by run. Then one after the other is changed, and after
// each change every file of the kernel that holds a setting, and all of inspect,
// show that nothing else was.
func TestOnlyWhatIsNamedChanges(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	if require.Has("net-rate") {
		_, d = setupNet(t)
	}
	v2 := require.Has("v2")
	d.Must(t, "run", "-d", "--name=probe", "busybox", "sleep", "600")
	disk := ""
	if require.Has("loop") {
		disk = backedLoop(t, 8)
	}
	all := slices.DeleteFunc(slices.Clone(allChanges), func(c oneChange) bool {
		missing := c.needs != "" && !hasFile(t, d, c.needs)
		if missing {
			t.Logf("--%s: this kernel has no %s", c.flag, c.needs)
		}
		if strings.HasPrefix(c.flag, "net-") && !require.Has("net-rate") || strings.Contains(c.before, "DISK") && disk == "" {
			t.Logf("--%s: this machine cannot", c.flag)
			return true
		}
		if c.flag == "cpuset-cpus" && runtime.NumCPU() < 2 {
			t.Log("--cpuset-cpus: this machine has one CPU")
			return true
		}
		return missing
	})
	for _, box := range []struct {
		name string
		// Upstream takes either the one or the others.
		without, only []string
	}{
		{name: "quota", without: []string{"cpus"}},
		{name: "cpus", without: []string{"cpu-period", "cpu-quota"}, only: []string{"cpus"}},
	} {
		args, changes := []string{"run", "-d", "--name", box.name}, []oneChange{}
		for _, c := range all {
			if slices.Contains(box.without, c.flag) {
				continue
			}
			args = append(args, "--"+c.flag+"="+strings.Replace(c.before, "DISK", disk, 1))
			if box.only == nil || slices.Contains(box.only, c.flag) {
				changes = append(changes, c)
			}
		}
		d.Must(t, append(args, "busybox", "sleep", "600")...)
		pid := d.Inspect(t, box.name).State.Pid
		g := d.Cgroup(t, box.name)

		// A hook hands in a device behind the runtime's back.
		hooked := !v2 && box.only == nil
		if hooked {
			d.Must(t, "exec", box.name, "mknod", "/tmp/hooked", "c", hookDevice[:3], hookDevice[4:])
			assert.Assert(t, !mayOpen(t, d, box.name), "the device is free to everyone: this tests nothing")
			dir, err := g.Dir("devices")
			assert.NilError(t, err)
			assert.NilError(t, os.WriteFile(filepath.Join(dir, "devices.allow"), []byte("c "+strings.Replace(hookDevice, " ", ":", 1)+" rw"), 0o200))
			assert.Assert(t, mayOpen(t, d, box.name))
		}
		rules := deviceRules(t, g)

		kernel, inspect := settingsOf(t, g), hostConfig(t, d, box.name)
		assert.Assert(t, len(kernel) > 10, "%v", kernel)
		for _, c := range changes {
			t.Run(box.name+" "+c.flag, func(t *testing.T) {
				d.Must(t, "modresources", "--"+c.flag+"="+strings.Replace(c.after, "DISK", disk, 1), box.name)
				kernelNow, inspectNow := settingsOf(t, g), hostConfig(t, d, box.name)
				changed := differing(kernel, kernelNow)
				allowed := c.v1
				if v2 {
					allowed = nil
					for _, file := range c.v2 {
						allowed = append(allowed, "cgroup/"+file)
					}
				}
				assert.Assert(t, len(changed) > 0 || len(allowed) == 0, "no file of the kernel has changed")
				for _, file := range changed {
					// The folder of a co-mounted hierarchy may have two names.
					file = strings.Replace(file, "cpu,cpuacct/", "cpu/", 1)
					assert.Check(t, slices.Contains(allowed, file), "%s: %s is now %s", file, kernel[file], kernelNow[file])
				}
				assert.Check(t, slices.Equal(differing(inspect, inspectNow), c.fields), "%v", differing(inspect, inspectNow))
				kernel, inspect = kernelNow, inspectNow
			})
		}
		assert.Equal(t, deviceRules(t, g), rules, "an update has written the rules for devices")
		if hooked {
			assert.Assert(t, mayOpen(t, d, box.name), "an update has taken away the device of a hook")
		}
		assert.Equal(t, d.Inspect(t, box.name).State.Pid, pid, "the container was restarted")
	}
}

// hasFile tells whether the container called probe has a file of the kernel.
func hasFile(t *testing.T, d *daemon.Daemon, file string) bool {
	t.Helper()
	g := d.Cgroup(t, "probe")
	if _, err := g.Read(file); err == nil {
		return true
	}
	for _, name := range map[string][]string{
		"io.weight":       {"blkio.weight"},
		"memory.swap.max": {"memory.memsw.limit_in_bytes"},
	}[file] {
		if _, err := g.Read(name); err == nil {
			return true
		}
	}
	return false
}
