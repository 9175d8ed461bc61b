// SPDX-License-Identifier: Apache-2.0

package require

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

// NetRate: programs and kernel parts to make a network with limits.
func NetRate(t testing.TB) { t.Helper(); need(t, "root", "binaries", "net-rate") }

// NetCgroups: the hierarchies net_cls and net_prio of cgroup v1.
func NetCgroups(t testing.TB) { t.Helper(); need(t, "net-cgroups") }

// NoNetCgroups: no hierarchy of these, for tests of the refusal.
func NoNetCgroups(t testing.TB) { t.Helper(); need(t, "no-net-cgroups") }

func noNetCgroups() error {
	err := netCgroups()
	switch {
	case err == nil:
		return missingf("net_cls and net_prio are mounted")
	case errors.As(err, new(missing)):
		return nil
	}
	return err
}

// Firewalld: the programs for one on a bus of its own.
func Firewalld(t testing.TB) { t.Helper(); need(t, "firewalld") }

func firewalld() error { return programs("firewalld", "firewall-cmd", "dbus-daemon") }

func programs(names ...string) error {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			return missing{err.Error()}
		}
	}
	return nil
}

func netRate() error {
	if err := programs("ip", "tc", "nft", "iptables", "ip6tables"); err != nil {
		return err
	}
	// Of a kernel with qdiscs; what else it lacks, dockerd has to say.
	if _, err := os.Stat("/proc/net/psched"); err != nil {
		return missing{err.Error()}
	}
	return nil
}

func netCgroups() error {
	for _, file := range []string{"net_cls/net_cls.classid", "net_prio/net_prio.ifpriomap"} {
		if _, err := os.Stat(cgroups + "/" + file); errors.Is(err, os.ErrNotExist) {
			return missingf("no %s in %s", file, cgroups)
		} else if err != nil {
			return err
		}
	}
	return nil
}
