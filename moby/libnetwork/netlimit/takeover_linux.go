// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"context"
	"os/exec"

	"github.com/containerd/log"
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
