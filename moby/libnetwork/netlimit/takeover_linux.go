// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"context"
	"errors"
	"os/exec"

	"github.com/containerd/log"
	"github.com/vishvananda/netns"
)

// oldChain is where builds up to November 2026 had a rule for each address, in
// table mangle of iptables.
const oldChain = "DOCKER-NETCLASS"

// removeOldChains removes it, once what replaces it is in force. A host without
// iptables does not have it.
func removeOldChains() {
	for _, name := range []string{"iptables", "ip6tables"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		run := func(args ...string) error {
			return exec.Command(path, append([]string{"--wait", "-t", "mangle"}, args...)...).Run()
		}
		if run("-n", "-L", oldChain) != nil {
			continue
		}
		for _, args := range [][]string{{"-D", "POSTROUTING", "-j", oldChain}, {"-F", oldChain}, {"-X", oldChain}} {
			if err := run(args...); err != nil {
				log.G(context.TODO()).WithError(err).Warnf("could not remove chain %s that an earlier build left in %s (%v)", oldChain, name, args)
			}
		}
	}
}

// removeTree removes what an owner ("": each) has in iptables since it did without
// nf_tables.
func removeTree(ns netns.NsHandle, owner string) error {
	i, err := openIptables(ns, owner)
	if err != nil {
		return nil // nor was there any then
	}
	defer i.close()
	owners := []string{owner}
	if owner == "" {
		owners, err = i.owners()
	}
	errs := []error{err}
	for _, owner := range owners {
		of := i.of(owner)
		is, err := of.read()
		if err == nil {
			_, err = of.change(is, newTables())
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		log.G(context.TODO()).WithError(err).Warn("could not remove chains of iptables that were used without nf_tables")
		return err
	}
	return nil
}
