// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/log"
	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/blkiodisk"
	"github.com/docker/docker/daemon/cgroupdir"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// blkioKind has the rates of disks. The runtime puts them into the files of the blkio
// or io controller, for the disks that the container reaches: blkio_reach_linux.go.
type blkioKind struct{ *Daemon }

func (blkioKind) name() string { return "blkio" }

// namesBlkio tells whether r has a rate of the disks behind a container.
func namesBlkio(r containertypes.Resources) bool { return blkioFields.Named(r) }

func (blkioKind) admit(daemonCfg *configStore, hostConfig *containertypes.HostConfig, sysInfo *sysinfo.SysInfo, update bool) error {
	r := hostConfig.Resources
	limits := blkioLimits(r)
	named := len(r.BlkioWeightDevice) + len(r.BlkioDeviceReadBps) + len(r.BlkioDeviceWriteBps) + len(r.BlkioDeviceReadIOps) + len(r.BlkioDeviceWriteIOps)
	if update && named > 0 && daemonCfg.IsRootless() {
		return errors.New("--device-read-bps and the like cannot be changed by a rootless daemon: no block I/O controller is delegated to it; run dockerd as root")
	}
	if sysInfo.CgroupUnified {
		if err := verifyDeviceRatesV2(r); err != nil {
			return err
		}
	}
	if !namesBlkio(limits) {
		return nil
	}
	return refusal(blkioFields, limits, blkioUnsupported(daemonCfg, sysInfo))
}

// verifyDeviceRatesV2 refuses what the io controller answers with EINVAL.
func verifyDeviceRatesV2(r containertypes.Resources) error {
	for _, list := range []struct {
		flag    string
		devices []*blkiodev.ThrottleDevice
	}{
		{"--device-read-bps", r.BlkioDeviceReadBps},
		{"--device-write-bps", r.BlkioDeviceWriteBps},
		{"--device-read-iops", r.BlkioDeviceReadIOps},
		{"--device-write-iops", r.BlkioDeviceWriteIOps},
	} {
		for _, d := range list.devices {
			if d != nil && d.Rate == 1 {
				return fmt.Errorf("%s %s:1 cannot be enforced: cgroup v2 takes rates from 2 up, and 0 for no limit", list.flag, d.Path)
			}
		}
	}
	return nil
}

// blkioUnsupported says why no disk can be limited on this host.
func blkioUnsupported(daemonCfg *configStore, sysInfo *sysinfo.SysInfo) error {
	switch {
	case daemonCfg.IsRootless():
		return errors.New("the daemon is rootless, and no block I/O controller is delegated to it; run dockerd as root")
	case sysInfo.BlkioReadBpsDevice && sysInfo.BlkioWriteBpsDevice && sysInfo.BlkioReadIOpsDevice && sysInfo.BlkioWriteIOpsDevice:
		return nil
	case sysInfo.CgroupUnified:
		return errors.New("cgroup v2 has no io controller here: the kernel needs CONFIG_BLK_CGROUP and CONFIG_BLK_DEV_THROTTLING")
	default:
		return errors.New("there is no blkio hierarchy that throttles: the kernel needs CONFIG_BLK_DEV_THROTTLING, and `mount -t cgroup -o blkio blkio /sys/fs/cgroup/blkio` before dockerd starts")
	}
}

func (daemon blkioKind) mechanisms() []system.ResourceLimits {
	sysInfo, row := daemon.hostInfo(), system.ResourceLimits{Feature: "blkio-limit"}
	switch reason := blkioUnsupported(daemon.config(), sysInfo); {
	case reason != nil:
		row.Reason = reason.Error()
	case sysInfo.CgroupUnified:
		row.Backend = "io controller of cgroup v2"
	default:
		row.Backend = "blkio controller of cgroup v1"
	}
	return []system.ResourceLimits{row}
}

func (blkioKind) admitNew(*configStore, *containertypes.Config, *containertypes.HostConfig, *network.NetworkingConfig) error {
	return nil
}

func (blkioKind) admitUpdate(*container.Container, containertypes.Resources) error { return nil }

// throttleKind is one of the rates of a disk.
type throttleKind struct {
	fileV1, keyV2 string
	rate          func(containertypes.Resources) *int64                     // of all disks
	devices       func(containertypes.Resources) []*blkiodev.ThrottleDevice // of those that are named
	list          func(*specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice
	shown         func(*containertypes.BlkioLimitDisk) *uint64
}

// throttleKinds are all rates, in the order of [throttles].
var throttleKinds = [4]throttleKind{
	{
		"blkio.throttle.read_bps_device", "rbps",
		func(r containertypes.Resources) *int64 { return r.BlkioReadLimit },
		func(r containertypes.Resources) []*blkiodev.ThrottleDevice { return r.BlkioDeviceReadBps },
		func(b *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &b.ThrottleReadBpsDevice },
		func(d *containertypes.BlkioLimitDisk) *uint64 { return &d.ReadBps },
	},
	{
		"blkio.throttle.write_bps_device", "wbps",
		func(r containertypes.Resources) *int64 { return r.BlkioWriteLimit },
		func(r containertypes.Resources) []*blkiodev.ThrottleDevice { return r.BlkioDeviceWriteBps },
		func(b *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &b.ThrottleWriteBpsDevice },
		func(d *containertypes.BlkioLimitDisk) *uint64 { return &d.WriteBps },
	},
	{
		"blkio.throttle.read_iops_device", "riops",
		func(r containertypes.Resources) *int64 { return r.BlkioReadIOpsLimit },
		func(r containertypes.Resources) []*blkiodev.ThrottleDevice { return r.BlkioDeviceReadIOps },
		func(b *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &b.ThrottleReadIOPSDevice },
		func(d *containertypes.BlkioLimitDisk) *uint64 { return &d.ReadIOps },
	},
	{
		"blkio.throttle.write_iops_device", "wiops",
		func(r containertypes.Resources) *int64 { return r.BlkioWriteIOpsLimit },
		func(r containertypes.Resources) []*blkiodev.ThrottleDevice { return r.BlkioDeviceWriteIOps },
		func(b *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &b.ThrottleWriteIOPSDevice },
		func(d *containertypes.BlkioLimitDisk) *uint64 { return &d.WriteIOps },
	},
}

// only returns the rate of this kind in r alone.
func (k throttleKind) only(r containertypes.Resources) (one containertypes.Resources) {
	switch k.keyV2 {
	case "rbps":
		one.BlkioReadLimit = r.BlkioReadLimit
	case "wbps":
		one.BlkioWriteLimit = r.BlkioWriteLimit
	case "riops":
		one.BlkioReadIOpsLimit = r.BlkioReadIOpsLimit
	case "wiops":
		one.BlkioWriteIOpsLimit = r.BlkioWriteIOpsLimit
	}
	return one
}

// file is where the kernel has it, for messages.
func (k throttleKind) file(v2 bool) string {
	if v2 {
		return "io.max (" + k.keyV2 + ")"
	}
	return k.fileV1
}

// throttles are rates by disk, one map for each of throttleKinds.
type throttles [4]map[blkiodisk.Disk]uint64

// lifted is the rate that takes a limit off on cgroup v1 and v2; 0 does so on
// v1 only.
const lifted = math.MaxUint64

func (daemon *Daemon) blkioHost(ctr *container.Container) (*blkiodisk.Host, error) {
	var bases []string
	if daemon.imageService != nil {
		// The overlay2 driver mounts with paths relative to its folder.
		bases = []string{filepath.Join(filepath.Dir(filepath.Dir(ctr.Root)), daemon.imageService.StorageDriver())}
	}
	return blkiodisk.NewHost(bases...)
}

// namesThrottles tells whether r, as an update, changes the rate of a disk.
func namesThrottles(r containertypes.Resources) bool {
	return slices.ContainsFunc(throttleKinds[:], func(k throttleKind) bool { return k.rate(r) != nil || k.devices(r) != nil })
}

// hasThrottles tells whether r limits the rate of a disk.
func hasThrottles(r containertypes.Resources) bool {
	return slices.ContainsFunc(throttleKinds[:], func(k throttleKind) bool { return limiting(k.rate(r)) != nil || len(k.devices(r)) > 0 })
}

// wantThrottles is what r asks for: the rates of r on all disks, except where
// r names a disk itself; free has those that it names to be without a limit. The
// errors are of devices that cannot be found, one for each of throttleKinds.
func wantThrottles(h *blkiodisk.Host, disks []blkiodisk.Disk, r containertypes.Resources) (want, free throttles, errs [4]error) {
	for i, kind := range throttleKinds {
		want[i], free[i] = map[blkiodisk.Disk]uint64{}, map[blkiodisk.Disk]uint64{}
		if rate := limiting(kind.rate(r)); rate != nil {
			for _, d := range disks {
				want[i][d] = uint64(*rate)
			}
		}
		for _, entry := range kind.devices(r) {
			d, err := h.Device(entry.Path)
			switch {
			case err != nil:
				errs[i] = err
			case entry.Rate == 0: // no limit, as on cgroup v1
				delete(want[i], d)
				free[i][d] = 0
			default:
				want[i][d] = entry.Rate
			}
		}
	}
	return want, free, errs
}

// keep adds to want what the kernel has and nobody asked to take off: a disk that was
// reached once stays limited for as long as the rate of all disks is set, whatever the
// container shows now. It may be changed, but is lifted only when the rate is, or with
// the entry that named it, by an update of that very rate, or if it is gone.
func (want throttles) keep(is, free throttles, r, update containertypes.Resources, errs [4]error, exists func(blkiodisk.Disk) bool) {
	for i, kind := range throttleKinds {
		rate := limiting(kind.rate(r))
		for d, now := range is[i] {
			_, wanted := want[i][d]
			_, freed := free[i][d]
			switch {
			case wanted || freed || !exists(d):
			case rate != nil:
				want[i][d] = uint64(*rate)
			case kind.rate(update) == nil && kind.devices(update) == nil || errs[i] != nil:
				// Which of these was meant by a name that is gone cannot be told.
				want[i][d] = now
			}
		}
	}
}

// readThrottles reads what the kernel has for a container.
func readThrottles(id string, pid int) (throttles, error) {
	dir, v2, err := cgroupdir.Of(id, pid, "blkio")
	if err != nil {
		return throttles{}, err
	}
	return readThrottleFiles(dir, v2)
}

func readThrottleFiles(dir string, v2 bool) (got throttles, _ error) {
	for i, kind := range throttleKinds {
		got[i] = map[blkiodisk.Disk]uint64{}
		name := kind.fileV1
		if v2 {
			name = "io.max"
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return got, err
		}
		for line := range strings.Lines(string(raw)) {
			fields := strings.Fields(line)
			if len(fields) < 2 {
				continue
			}
			d, err := blkiodisk.Parse(fields[0])
			if err != nil {
				return got, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
			}
			value := fields[1]
			if v2 {
				value = "max"
				for _, f := range fields[1:] {
					if key, v, _ := strings.Cut(f, "="); key == kind.keyV2 {
						value = v
					}
				}
			}
			if value == "max" {
				continue
			}
			rate, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return got, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
			}
			got[i][d] = rate
		}
	}
	return got, nil
}

// forget makes change send all rates that update names: a runtime that died between the
// kernel's files and its own has them otherwise there, and would put those back some day.
func (is throttles) forget(update containertypes.Resources, want throttles, disks []blkiodisk.Disk) {
	const unknown = 0 // no rate
	for i, kind := range throttleKinds {
		if kind.rate(update) == nil && kind.devices(update) == nil {
			continue
		}
		for _, d := range disks {
			is[i][d] = unknown
		}
		for d := range want[i] {
			is[i][d] = unknown
		}
	}
}

// change adds to b what makes want of what is there.
func (want throttles) change(is throttles, b *specs.LinuxBlockIO) {
	for i, kind := range throttleKinds {
		if maps.Equal(want[i], is[i]) {
			continue
		}
		rates := maps.Clone(want[i])
		for d := range is[i] {
			if _, ok := rates[d]; !ok {
				rates[d] = lifted
			}
		}
		*kind.list(b) = throttleList(rates)
	}
}

func throttleList(rates map[blkiodisk.Disk]uint64) []specs.LinuxThrottleDevice {
	var list []specs.LinuxThrottleDevice
	for _, d := range slices.SortedFunc(maps.Keys(rates), blkiodisk.Compare) {
		entry := specs.LinuxThrottleDevice{Rate: rates[d]}
		entry.Major, entry.Minor = int64(d.Major), int64(d.Minor)
		list = append(list, entry)
	}
	return list
}

// differ returns an error unless the kernel has just what is wanted. A disk
// that is gone in the meantime has no rate.
func (want throttles) differ(is throttles, v2 bool, exists func(blkiodisk.Disk) bool) error {
	for i, kind := range throttleKinds {
		for d, rate := range want[i] {
			if got, ok := is[i][d]; got != rate && exists(d) {
				shown := "no limit"
				if ok {
					shown = strconv.FormatUint(got, 10)
				}
				return fmt.Errorf("a disk's rate was not applied: %s of %s is %s, want %d", kind.file(v2), d, shown, rate)
			}
		}
		for d, rate := range is[i] {
			if _, ok := want[i][d]; !ok {
				return fmt.Errorf("a disk's rate was not taken off: %s of %s is still %d", kind.file(v2), d, rate)
			}
		}
	}
	return nil
}

// update: if no rate is named, a missing disk only logs; nor does one keep an update
// from being rolled back.
func (daemon blkioKind) update(ctr *container.Container, tsk libcontainerdtypes.Task, r *libcontainerdtypes.Resources, update, full containertypes.Resources, isBack bool) (verify func() error, _ error) {
	pid := int(tsk.Pid())
	if err := weightUpdate(ctr.ID, pid, r, update); err != nil && !isBack {
		return nothingToVerify, err
	}
	named := namesThrottles(update)
	if !named && limitFlags(blkioLimits(full)) == "" {
		return nothingToVerify, nil
	}
	if limitFlags(blkioLimits(full)) != "" {
		daemon.watchDisks(ctr, pid, full)
	}
	want, h, err := daemon.planThrottles(ctr, pid, r, update, full, named && !isBack, isBack)
	if err == nil {
		return func() error {
			return daemon.verifyThrottles(ctr.ID, pid, want, h)
		}, nil
	}
	if !named {
		log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Warn("the rates of disks stay as they are")
		return nothingToVerify, nil
	}
	return nothingToVerify, err
}

func (daemon *Daemon) verifyThrottles(id string, pid int, want throttles, h *blkiodisk.Host) error {
	is, err := readThrottles(id, pid)
	if err != nil {
		if want.empty() && errors.Is(err, os.ErrNotExist) {
			return nil // no controller, no limit
		}
		return fmt.Errorf("cannot tell whether the rates of disks were applied: %w", err)
	}
	return want.differ(is, daemon.hostInfo().CgroupUnified, h.Exists)
}

// planThrottles puts into r what takes the disks of a running container to the rates
// of full. update has the rates that somebody asked to change, strict is whether what is in the way
// is an error and not a reason to leave a disk as it is. With again, what update names is
// sent even if the kernel has it.
func (daemon *Daemon) planThrottles(ctr *container.Container, pid int, r *libcontainerdtypes.Resources, update, full containertypes.Resources, strict, again bool) (want throttles, _ *blkiodisk.Host, _ error) {
	h, covered, err := daemon.reach(ctr, pid)
	if err != nil {
		return want, nil, err
	}
	daemon.noteAnyDisk(ctr.ID, covered.anyDisk)
	if flags := limitFlags(blkioLimits(full)); flags != "" && len(covered.disks) == 0 && strict {
		return want, nil, errdefs.InvalidParameter(fmt.Errorf("%s cannot be enforced: there is no disk behind the container: %s", flags, strings.Join(covered.uncovered, ", ")))
	}
	want, free, errs := wantThrottles(h, covered.disks, full)
	if err := errors.Join(errs[:]...); err != nil && strict {
		return want, nil, errdefs.InvalidParameter(err)
	}
	is, err := readThrottles(ctr.ID, pid)
	if err != nil {
		if want.empty() && errors.Is(err, os.ErrNotExist) {
			return want, h, nil
		}
		return want, nil, fmt.Errorf("cannot tell the rates of disks: %w", err)
	}
	want.keep(is, free, full, update, errs, h.Exists)
	if r.BlockIO == nil {
		r.BlockIO = &specs.LinuxBlockIO{}
	}
	if again {
		is.forget(update, want, covered.disks)
	}
	want.change(is, r.BlockIO)
	return want, h, nil
}

// namesGoneDisk tells whether a disk in r has gone since it was planned.
func namesGoneDisk(r *libcontainerdtypes.Resources) bool {
	h := &blkiodisk.Host{Sys: "/sys"}
	return slices.ContainsFunc(throttleKinds[:], func(k throttleKind) bool {
		return slices.ContainsFunc(*k.list(r.BlockIO), func(d specs.LinuxThrottleDevice) bool {
			return d.Rate != lifted && !h.Exists(blkiodisk.Disk{Major: uint32(d.Major), Minor: uint32(d.Minor)})
		})
	})
}

// changesThrottles tells whether r has any rate.
func changesThrottles(r *libcontainerdtypes.Resources) bool {
	return r.BlockIO != nil && slices.ContainsFunc(throttleKinds[:], func(k throttleKind) bool { return len(*k.list(r.BlockIO)) > 0 })
}

func (want throttles) empty() bool {
	return !slices.ContainsFunc(want[:], func(m map[blkiodisk.Disk]uint64) bool { return len(m) > 0 })
}

// weightFiles have the weights of devices, on cgroup v1 and v2.
var weightFiles = []string{"blkio.weight_device", "blkio.bfq.weight_device", "io.bfq.weight"}

// weightUpdate puts the weights of devices into r, and 0, which takes one off,
// for those that the kernel has and update does not name.
func weightUpdate(id string, pid int, r *libcontainerdtypes.Resources, update containertypes.Resources) error {
	if update.BlkioWeightDevice == nil {
		return nil
	}
	devices, err := getBlkioWeightDevices(update)
	if err != nil {
		return errdefs.InvalidParameter(err)
	}
	if dir, _, err := cgroupdir.Of(id, pid, "blkio"); err == nil {
		devices = append(devices, otherWeights(dir, devices)...)
	}
	if r.BlockIO == nil {
		r.BlockIO = &specs.LinuxBlockIO{}
	}
	r.BlockIO.WeightDevice = devices
	return nil
}

func otherWeights(dir string, named []specs.LinuxWeightDevice) (others []specs.LinuxWeightDevice) {
	for _, name := range weightFiles {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			number, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			d, err := blkiodisk.Parse(number)
			if err != nil { // "default 100"
				continue
			}
			if slices.ContainsFunc(named, func(n specs.LinuxWeightDevice) bool {
				return n.Major == int64(d.Major) && n.Minor == int64(d.Minor)
			}) {
				continue
			}
			off := specs.LinuxWeightDevice{Weight: new(uint16)}
			off.Major, off.Minor = int64(d.Major), int64(d.Minor)
			others = append(others, off)
		}
		break
	}
	return others
}

// spec puts the rates of disks into the spec. Those of named devices are there
// already, but upstream takes a partition, which the kernel does not, and a regular
// file for device 0:0. Those of all disks are a guess, which started corrects; in
// most cases it is right and spares a process of the runtime.
func (daemon blkioKind) spec(_ *configStore, ctr *container.Container, s *specs.Spec) error {
	r := ctr.HostConfig.Resources
	if !hasThrottles(r) {
		return nil
	}
	h, covered, err := daemon.reach(ctr, 0)
	if err != nil {
		return err
	}
	want, _, errs := wantThrottles(h, covered.lasting, r)
	if err := errors.Join(errs[:]...); err != nil {
		return errdefs.InvalidParameter(err)
	}
	for i, kind := range throttleKinds {
		*kind.list(s.Linux.Resources.BlockIO) = throttleList(want[i])
	}
	return nil
}

// started limits the disks of a container that has all its mounts. Only then can all
// disks be known: volume drivers mount late, and a bind mount brings along what is
// mounted below.
func (daemon blkioKind) started(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task) error {
	full := ctr.HostConfig.Resources
	if limitFlags(blkioLimits(full)) == "" {
		return nil
	}
	update := full
	update.BlkioWeightDevice = nil // is in the spec
	var verify func() error
	for {
		var r libcontainerdtypes.Resources
		var err error
		if verify, err = daemon.update(ctr, tsk, &r, update, full, false); err != nil {
			return err
		}
		if !changesThrottles(&r) {
			break
		}
		if err = tsk.UpdateResources(ctx, &r); err == nil {
			break
		}
		if !namesGoneDisk(&r) {
			return errdefs.System(fmt.Errorf("cannot limit the container's disks: %w", err))
		}
	}
	for _, warning := range daemon.blkioWarnings(ctr, int(tsk.Pid())) {
		log.G(ctx).WithField("container", ctr.ID).Warn(warning)
	}
	if err := verify(); err != nil {
		return errdefs.System(err)
	}
	return nil
}

func (daemon blkioKind) warnings(ctr *container.Container) []string {
	return daemon.blkioWarnings(ctr, 0)
}

func (daemon blkioKind) updateWarnings(ctr *container.Container, change containertypes.Resources) []string {
	if !namesBlkio(blkioLimits(change)) {
		return nil
	}
	return daemon.blkioWarnings(ctr, ctr.Pid)
}

// blkioWarnings says what the rates of a container do not cover. pid is of its
// init process; without one (0) what is mounted at start only is not known.
func (daemon *Daemon) blkioWarnings(ctr *container.Container, pid int) (warnings []string) {
	limits := blkioLimits(ctr.HostConfig.Resources)
	if limitFlags(limits) == "" {
		return nil
	}
	if !daemon.hostInfo().CgroupUnified && (limits.BlkioWriteLimit != nil || limits.BlkioWriteIOpsLimit != nil) {
		write := containertypes.Resources{BlkioWriteLimit: limits.BlkioWriteLimit, BlkioWriteIOpsLimit: limits.BlkioWriteIOpsLimit}
		warnings = append(warnings, fmt.Sprintf("%s limits direct I/O only on cgroup v1: cached writes go to the disk on the kernel's own account.", limitFlags(write)))
	}
	_, covered, err := daemon.reach(ctr, pid)
	if err != nil {
		return append(warnings, fmt.Sprintf("Cannot tell which disks are limited: %v.", err))
	}
	if len(covered.uncovered) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s does not limit %s.", limitFlags(limits), strings.Join(covered.uncovered, ", ")))
	}
	for _, kind := range throttleKinds {
		if limiting(kind.rate(limits)) == nil {
			continue
		}
		for _, entry := range kind.devices(ctr.HostConfig.Resources) {
			if entry.Rate == 0 {
				warnings = append(warnings, fmt.Sprintf("%s does not limit %s, for which a rate of 0 is given.", limitFlags(kind.only(limits)), entry.Path))
			}
		}
	}
	return warnings
}

// blkioLimitDisks tells the rates that the kernel has for the disks of a
// running container, for inspect. Callers hold the container's lock.
func (daemon *Daemon) blkioLimitDisks(ctr *container.Container) []containertypes.BlkioLimitDisk {
	if !ctr.Running || !hasThrottles(ctr.HostConfig.Resources) {
		return nil
	}
	is, err := readThrottles(ctr.ID, ctr.Pid)
	if err != nil {
		return nil
	}
	shown := map[blkiodisk.Disk]*containertypes.BlkioLimitDisk{}
	h := &blkiodisk.Host{Sys: "/sys"}
	for i, kind := range throttleKinds {
		for d, rate := range is[i] {
			if shown[d] == nil {
				shown[d] = &containertypes.BlkioLimitDisk{Device: d.String(), Path: h.Path(d)}
			}
			*kind.shown(shown[d]) = rate
		}
	}
	var list []containertypes.BlkioLimitDisk
	for _, d := range slices.SortedFunc(maps.Keys(shown), blkiodisk.Compare) {
		list = append(list, *shown[d])
	}
	return list
}
