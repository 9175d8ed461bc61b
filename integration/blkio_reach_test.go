// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// limitedDisks fails unless the kernel has the rate for these disks. Others may have
// it too: a privileged container reaches all of the host's.
func limitedDisks(t *testing.T, d *daemon.Daemon, name string, rate diskRates, disks ...string) {
	t.Helper()
	got := kernelRates(t, d, name)
	for _, disk := range disks {
		if disk != "" { // the daemon's files may have no disk
			assert.Check(t, is.Equal(got[disk], rate), "%s: %s of %v", name, disk, got)
		}
	}
}

// A container can hide every mount from itself: with CAP_SYS_ADMIN by covering them,
// with default capabilities by a change of its root. Its disks stay limited.
func TestBlkioLimitHoldsAgainstTheContainer(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	root, disk := rootDisk(t, d), backedLoop(t, 16)
	data := mounted(t, disk)
	t.Cleanup(func() { d.RemoveAll(t) }) // before the disks go
	rate := diskRates{5 * mib, 0, 0, 0}
	for name, tc := range map[string]struct{ flags, hide string }{
		"jail":  {"", "mkdir -p /jail/bin /jail/proc && cp /bin/busybox /jail/bin/ && ln -s busybox /jail/bin/sleep && touch /data/ready && exec chroot /jail /bin/sleep 600"},
		"cover": {"--cap-add=SYS_ADMIN --security-opt=apparmor=unconfined", "umount /etc/hosts /etc/hostname /etc/resolv.conf; cd /data && touch ready && mount -t tmpfs none /data && mount -t tmpfs none / && exec /bin/busybox sleep 600"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "jail" { // A change of root is no matter of cgroups.
				place.OnHost(t)
			}
			_ = os.Remove(filepath.Join(data, "ready"))
			args := append([]string{"run", "-d", "--name=" + name, "--blkio-read-limit=5m", "-v", data + ":/data"}, strings.Fields(tc.flags)...)
			d.Must(t, append(args, "busybox", "sh", "-c", tc.hide)...)
			until(t, func() error { _, err := os.Stat(filepath.Join(data, "ready")); return err })
			time.Sleep(300 * time.Millisecond) // what comes after the file
			assert.Assert(t, d.Inspect(t, name).State.Running, d.Must(t, "logs", name))
			mountinfo, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", d.Inspect(t, name).State.Pid))
			assert.NilError(t, err)
			if name == "jail" {
				assert.Check(t, !strings.Contains(string(mountinfo), "/data"), "it shows its mounts:\n%s", mountinfo)
			}

			limitedDisks(t, d, name, rate, root, number(t, disk))
			d.Must(t, "update", "--cpu-shares=300", name)
			limitedDisks(t, d, name, rate, root, number(t, disk))
			assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.BlkioReadLimit}} {{json .LimitsNotInForce}}", name), "5242880 null")
			d.Must(t, "update", "--blkio-read-limit=7m", name)
			limitedDisks(t, d, name, diskRates{7 * mib, 0, 0, 0}, root, number(t, disk))
			d.Must(t, "update", "--blkio-read-limit=-1", name)
			wantRates(t, d, name, map[string]diskRates{})
		})
	}
}

// until waits a minute at most for something, and ends the test with what it lacked.
// It asks in the goroutine of the test, so that the question may end the test too;
// poll.WaitOn would then wait for its time to be over.
func until(t *testing.T, ready func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); pause() {
		if err = ready(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// Disks that a container gets without a mount.
func TestBlkioLimitReachesRawDisks(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	root, disk := rootDisk(t, d), backedLoop(t, 16)
	parted := backedLoop(t, 32)
	part := partition(t, parted)
	folder := t.TempDir()
	var st unix.Stat_t
	assert.NilError(t, unix.Stat(disk, &st))
	assert.NilError(t, os.Mkdir(filepath.Join(folder, "sub"), 0o755))
	assert.NilError(t, unix.Mknod(filepath.Join(folder, "sub", "disk"), unix.S_IFBLK|0o600, int(st.Rdev)))
	t.Cleanup(func() { d.RemoveAll(t) }) // before the disks go
	rate := diskRates{5 * mib, 6 * mib, 0, 0}
	for name, tc := range map[string]struct {
		flag, disk string
		others     bool // it reaches more than these disks
		onHost     bool // Its way to the disk is known before cgroups are.
	}{
		"device":     {flag: "--device=" + disk, disk: disk},
		"partition":  {flag: "--device=" + part + ":/dev/x", disk: parted, onHost: true},
		"folder":     {flag: "--device=" + folder + ":/dev/folder", disk: disk, onHost: true},
		"rule":       {flag: "--device-cgroup-rule=b " + number(t, disk) + " rw", disk: disk},
		"driver":     {flag: "--device-cgroup-rule=b 7:* rw", disk: disk, others: true, onHost: true},
		"privileged": {flag: "--privileged", disk: disk, others: true},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.onHost {
				place.OnHost(t)
			}
			d.Must(t, "run", "-d", "--name="+name, tc.flag, "--blkio-read-limit=5m", "--blkio-write-limit=6m", "busybox", "sleep", "600")
			want := number(t, tc.disk)
			limitedDisks(t, d, name, rate, root, want)
			d.Must(t, "update", "--cpu-shares=300", name)
			limitedDisks(t, d, name, rate, root, want)
			d.Must(t, "update", "--blkio-read-limit=7m", name)
			limitedDisks(t, d, name, diskRates{7 * mib, 6 * mib, 0, 0}, root, want)
			if !tc.others {
				wantRates(t, d, name, map[string]diskRates{root: {7 * mib, 6 * mib, 0, 0}, want: {7 * mib, 6 * mib, 0, 0}})
			}
			d.Must(t, "rm", "-f", name)
		})
	}
}

// A disk that comes to a running container is limited without an update.
func TestBlkioLimitReachesDisksThatComeLater(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	root, first, second := rootDisk(t, d), backedLoop(t, 16), backedLoop(t, 16)
	share := t.TempDir()
	mount(t, "tmpfs", share, "tmpfs")
	assert.NilError(t, unix.Mount("", share, "", unix.MS_SHARED, ""))
	for _, dir := range []string{"first", "second"} {
		assert.NilError(t, os.Mkdir(filepath.Join(share, dir), 0o755))
	}
	t.Cleanup(func() { d.RemoveAll(t) }) // before the disks go
	comes := func(disk, dir string) string {
		t.Helper()
		source := mounted(t, disk) // which makes the file system
		assert.NilError(t, unix.Unmount(source, 0))
		mount(t, disk, filepath.Join(share, dir), "ext4")
		return number(t, disk)
	}
	rate := diskRates{5 * mib, 0, 0, 0}
	soon := func(disk string) {
		t.Helper()
		until(t, func() error {
			if got := kernelRates(t, d, "box")[disk]; got != rate {
				return fmt.Errorf("%s has %v", disk, got)
			}
			return nil
		})
	}
	d.LiveRestore(t)
	d.Must(t, "run", "-d", "--name=box", "--blkio-read-limit=5m", "-v", share+":/share:rslave", "busybox", "sleep", "600")
	limitedDisks(t, d, "box", rate, root)
	began := time.Now()
	soon(comes(first, "first"))
	t.Logf("limited after %s, the mount included", time.Since(began))

	// While dockerd was not there.
	d.Kill(t)
	disk := comes(second, "second")
	d.StartAgain(t)
	soon(disk)
	assert.Equal(t, d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", "box"), "null")
}

// What is accepted works: at create, at each start, and in an update.
func TestBlkioLimitRangeEnds(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	node := backedLoop(t, 16)
	disk := number(t, node)
	t.Cleanup(func() { d.RemoveAll(t) }) // before the disk goes
	for _, tc := range []struct {
		flags string
		want  diskRates
	}{
		{"--blkio-read-limit=2 --blkio-write-limit=9223372036854775807 --blkio-read-iops-limit=2 --blkio-write-iops-limit=4294967294", diskRates{2, 1<<63 - 1, 2, 1<<32 - 2}},
		{"--device-read-bps=" + node + ":2 --device-write-iops=" + node + ":4294967294", diskRates{2, 0, 0, 1<<32 - 2}},
	} {
		d.Must(t, append(append([]string{"create", "--name=box", "--device=" + node}, strings.Fields(tc.flags)...), "busybox", "sleep", "600")...)
		for range 2 {
			d.Must(t, "restart", "-t", "0", "box")
			limitedDisks(t, d, "box", tc.want, disk)
		}
		d.Must(t, append(append([]string{"update"}, strings.Fields(tc.flags)...), "box")...)
		limitedDisks(t, d, "box", tc.want, disk)
		d.Must(t, "rm", "-f", "box")
	}
	d.Must(t, "run", "-d", "--name=box", "--device="+node, "busybox", "sleep", "600")
	refused := func(body string, words ...string) {
		t.Helper()
		for _, path := range []string{"/containers/create", "/containers/box/update"} {
			text := body
			if path == "/containers/create" {
				text = `{"Image":"busybox","HostConfig":` + body + `}`
			}
			r := d.API(t, http.MethodPost, path, text)
			assert.Check(t, is.Equal(r.Status, http.StatusBadRequest), "%s %s: %s", path, body, r.Body)
			wantWords(t, r.Message(), words...)
		}
	}
	refused(`{"BlkioReadIOpsLimit":4294967295}`, "--blkio-read-iops-limit", "4294967295", "2 to 4294967294")
	refused(`{"BlkioWriteLimit":1}`, "--blkio-write-limit", "must be 2 to")
	refused(`{"BlkioDeviceReadIOps":[{"Path":"`+node+`","Rate":4294967295}]}`, "--device-read-iops", "4294967294")
	refused(`{"NetEgressRate":6071}`, "--net-egress-rate", "6072 to 1000000000000000")
	refused(`{"NetIngressRate":1000000000000001}`, "--net-ingress-rate", "6072 to 1000000000000000")
	if require.Has("v2") {
		refused(`{"BlkioDeviceReadIOps":[{"Path":"`+node+`","Rate":1}]}`, "--device-read-iops "+node+":1", "cgroup v2", "from 2 up")
	}
	r := d.Docker(t, "create", "--device="+node, "--device-write-bps="+node+":0", "--blkio-write-limit=5m", "busybox", "true")
	assert.Equal(t, r.Code, 0, r.Stderr)
	wantWords(t, r.Stderr, "--blkio-write-limit=5242880 does not limit "+node, "rate of 0")
}

func TestNetRateRangeEnds(t *testing.T) {
	place.OnHost(t)
	_, d := setupNet(t)
	for _, bits := range []int64{6072, 1e15} {
		rate := fmt.Sprint(bits)
		d.Must(t, "run", "-d", "--name=box", "--net-egress-rate="+rate, "--net-ingress-rate="+rate, "busybox", "sleep", "600")
		d.Must(t, "restart", "-t", "0", "box")
		d.Must(t, "update", "--net-egress-rate=8mbit", "box")
		d.Must(t, "update", "--net-egress-rate="+rate, "box")
		assert.Equal(t, d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", "box"), "null")
		d.Must(t, "rm", "-f", "box")
	}
	d.Must(t, "network", "create", "-o", "com.docker.network.driver.mtu=9000", "jumbo")
	r := d.Docker(t, "create", "--network=jumbo", "--net-egress-rate=10kbit", "busybox", "true")
	assert.Check(t, r.Code != 0)
	wantWords(t, r.Stderr, "--net-egress-rate=10000", "network jumbo", "MTU of 9000", "least rate")
}
