// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/config"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestVerifyNet(t *testing.T) {
	class, none, rate, free := uint32(0x100001), uint32(0), int64(8e6), int64(-1)
	lo := []containertypes.NetPriority{{Interface: "lo", Priority: 3}}
	for _, tc := range []struct {
		name string
		mode containertypes.NetworkMode
		r    containertypes.Resources
		v2   bool
		edit func(*config.Config)
		err  string
	}{
		{name: "nothing", mode: "none", r: containertypes.Resources{NetClassID: &none, NetEgressRate: &free, NetPriorities: []containertypes.NetPriority{}}},
		{name: "none", mode: "none", r: containertypes.Resources{NetClassID: &class}, err: "--net-classid=10:1 cannot be enforced: the container has no network"},
		{name: "container", mode: "container:x", r: containertypes.Resources{NetIngressRate: &rate}, err: "--net-ingress-rate=8000000 cannot be enforced: the container uses the network of another one (--network=container:x)"},
		{name: "rate of the host", mode: "host", r: containertypes.Resources{NetEgressRate: &rate}, err: "use a bridge network"},
		{name: "packets of the host", mode: "host", r: containertypes.Resources{NetEgressPPS: &rate}, err: "--net-egress-pps=8000000 cannot be enforced: a container that uses the host's interfaces"},
		{name: "host v2", mode: "host", v2: true, r: containertypes.Resources{NetClassID: &class}},
		{name: "both, host v2", mode: "host", v2: true, r: containertypes.Resources{NetClassID: &class, NetPriorities: lo}, err: "use one of them"},
		{name: "both, bridge", mode: "bridge", r: containertypes.Resources{NetClassID: &class, NetPriorities: lo}, err: "use one of them"},
		{name: "no interface", mode: "host", v2: true, r: containertypes.Resources{NetPriorities: []containertypes.NetPriority{{Interface: "nosuch0"}}}},
		{name: "no bridge", mode: "bridge", r: containertypes.Resources{NetClassID: &class}, edit: func(c *config.Config) { c.DisableBridge = true }, err: "--bridge=none"},
		{name: "no default bridge", mode: "default", r: containertypes.Resources{NetClassID: &class}, edit: func(c *config.Config) { c.DisableBridge = true }, err: "--bridge=none"},
		{name: "rootless", mode: "bridge", r: containertypes.Resources{NetEgressRate: &rate}, edit: func(c *config.Config) { c.Rootless = true }, err: "rootless"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := &configStore{}
			if tc.edit != nil {
				tc.edit(&cfg.Config)
			}
			hostConfig := &containertypes.HostConfig{NetworkMode: tc.mode, Resources: tc.r}
			err := netKind{&Daemon{}}.admit(cfg, hostConfig, &sysinfo.SysInfo{CgroupUnified: tc.v2}, false)
			if tc.err == "" {
				assert.NilError(t, err)
			} else {
				assert.ErrorContains(t, err, tc.err)
			}
			// The container says, not the request.
			assert.NilError(t, netKind{&Daemon{}}.admit(cfg, hostConfig, &sysinfo.SysInfo{}, true))
		})
	}
}

// fakeSwarm is a cluster with the network ov.
type fakeSwarm struct {
	Cluster
	manager bool
}

func (s *fakeSwarm) IsManager() bool { return s.manager }

func (s *fakeSwarm) network(name string) (n networktypes.Inspect, _ error) {
	drivers := map[string]string{"ov": "overlay", "br": "bridge"}
	switch {
	case !s.manager:
		panic("asked one that is no manager")
	case drivers[name] == "":
		return n, errors.New("no such network")
	}
	n.Name, n.Driver = name, drivers[name]
	return n, nil
}

func TestCheckSwarmNetwork(t *testing.T) {
	for _, cluster := range []Cluster{nil, &fakeSwarm{}} {
		assert.NilError(t, (&Daemon{cluster: cluster}).checkSwarmNetwork("ov"))
	}
	daemon := &Daemon{cluster: &fakeSwarm{manager: true}}
	assert.ErrorContains(t, daemon.checkSwarmNetwork("ov"), "network ov (driver overlay)")
	assert.NilError(t, daemon.checkSwarmNetwork("br"))
	assert.NilError(t, daemon.checkSwarmNetwork("nosuch"))
}

func TestNeedHierarchy(t *testing.T) {
	assert.NilError(t, needHierarchy("nosuch", false))
	assert.ErrorContains(t, needHierarchy("nosuch", true), "no cgroup controller nosuch")
}

func TestOverlayNet(t *testing.T) {
	one, two, rate, free := uint32(1), uint32(2), int64(8e6), int64(-1)
	old := containertypes.Resources{NetClassID: &one, NetEgressRate: &rate, NetIngressRate: &rate}
	r := old
	netFields.Overlay(&r, containertypes.Resources{NetClassID: &two, NetIngressRate: &free, NetPriorities: []containertypes.NetPriority{{Interface: "lo", Priority: 7}}})
	s := netSettings(r)
	assert.Check(t, is.Equal(s.Class, two))
	assert.Check(t, is.Equal(s.Egress, rate))
	assert.Check(t, is.Equal(s.Ingress, int64(0)))
	assert.Check(t, is.DeepEqual(s.Priorities, map[string]uint32{"lo": 7}))
	assert.Check(t, is.Equal(*old.NetClassID, one))
}

func TestSpecNetwork(t *testing.T) {
	assert.Check(t, is.Nil(specNetwork(containertypes.Resources{}, nil)))
	class := uint32(5)
	r := containertypes.Resources{NetClassID: &class, NetPriorities: []containertypes.NetPriority{{Interface: "lo", Priority: 7}}}
	got := specNetwork(r, map[string]uint32{"lo": 3, "eth0": 4})
	assert.Check(t, is.DeepEqual(got, &specs.LinuxNetwork{ClassID: &class, Priorities: []specs.LinuxInterfacePriority{
		{Name: "lo", Priority: 7}, {Name: "eth0", Priority: 0},
	}}))
}

// Without a limiter nothing is limited: then nothing is taken either.
func TestNetLimitIsRefusedWithoutALimiter(t *testing.T) {
	rate := int64(8e6)
	ctr := container.NewBaseContainer("limited", t.TempDir())
	ctr.HostConfig = &containertypes.HostConfig{NetworkMode: "bridge", Resources: containertypes.Resources{NetEgressRate: &rate}}
	err := (&Daemon{}).limitEndpoint(t.Context(), ctr, nil, nil)
	assert.ErrorContains(t, err, "--net-egress-rate=8000000 cannot be enforced")
	ctr.HostConfig.Resources = containertypes.Resources{}
	assert.NilError(t, (&Daemon{}).limitEndpoint(t.Context(), ctr, nil, nil))
}
