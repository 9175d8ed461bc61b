// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/libnetwork/iptables"
)

// classChain holds all our rules. It exists, with the jump to it, only while
// there is a rule; where two daemons share a network namespace it may be there,
// empty, until the next rule comes and goes.
const classChain = "DOCKER-NETCLASS"

const fromChain = "POSTROUTING"

// classRule sets the priority of what an address sends, through one uplink or
// all. The comment names the endpoint, so that a rule can be found again after
// a crash.
type classRule struct {
	endpoint string
	src      netip.Addr
	out      string // the uplink, empty for all
	class    uint32
}

func (r classRule) version() iptables.IPVersion {
	if r.src.Is4() {
		return iptables.IPv4
	}
	return iptables.IPv6
}

// spec is the rule as iptables takes it, in a table's text for iptables-restore.
func (r classRule) spec() string {
	s := classChain + " -s " + netip.PrefixFrom(r.src, r.src.BitLen()).String()
	if r.out != "" {
		// A name can have quotes in it.
		s += ` -o "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(r.out) + `"`
	}
	return fmt.Sprintf("%s -m comment --comment %s -j CLASSIFY --set-class %x:%x", s, r.endpoint, r.class>>16, r.class&0xffff)
}

// classRules returns the rules that an endpoint should have.
func classRules(ep Endpoint, s Settings) (rules []classRule) {
	for _, addr := range ep.Addrs {
		addr = addr.Unmap()
		if s.Class != 0 {
			rules = append(rules, classRule{endpoint: ep.ID, src: addr, class: s.Class})
		}
		for out, prio := range s.Priorities {
			rules = append(rules, classRule{endpoint: ep.ID, src: addr, out: out, class: prio})
		}
	}
	return rules
}

// classTable is what the mangle table of one IP version has of ours.
type classTable struct {
	rules       []classRule
	chain, jump bool
}

// tables is what was last seen, or made, of each table. It is guarded by mu.
var tables = map[iptables.IPVersion]classTable{}

// readClassTable costs a process.
func readClassTable(version iptables.IPVersion) (classTable, error) {
	delete(tables, version)
	out, err := iptables.GetIptable(version).Raw("-t", string(iptables.Mangle), "-S")
	if err != nil {
		return classTable{}, err
	}
	t, err := parseClassTable(string(out))
	if err == nil {
		tables[version] = t
	}
	return t, err
}

// parseClassTable reads the output of `iptables -t mangle -S`. A rule in our
// chain that it does not understand is an error: it would not be ours.
func parseClassTable(list string) (t classTable, _ error) {
	for _, line := range strings.Split(list, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "-N" && f[1] == classChain:
			t.chain = true
		case len(f) == 4 && f[0] == "-A" && f[1] == fromChain && f[3] == classChain:
			t.jump = true
		case len(f) > 2 && f[0] == "-A" && f[1] == classChain:
			r, err := parseClassRule(f[2:])
			if err != nil {
				return t, fmt.Errorf("rule %q: %w", line, err)
			}
			t.rules = append(t.rules, r)
		}
	}
	return t, nil
}

func parseClassRule(f []string) (r classRule, _ error) {
	if len(f)%2 != 0 {
		return r, errors.New("an option without a value")
	}
	for i := 0; i < len(f); i += 2 {
		value := strings.Trim(f[i+1], `"`)
		switch f[i] {
		case "-s":
			p, err := netip.ParsePrefix(value)
			if err != nil {
				return r, err
			}
			r.src = p.Addr()
		case "-o":
			r.out = value
		case "--comment":
			r.endpoint = value
		case "--set-class":
			major, minor, _ := strings.Cut(value, ":")
			hi, err := strconv.ParseUint(major, 16, 16)
			if err != nil {
				return r, err
			}
			lo, err := strconv.ParseUint(minor, 16, 16)
			if err != nil {
				return r, err
			}
			r.class = uint32(hi)<<16 | uint32(lo)
		case "-m", "-j":
		default:
			return r, fmt.Errorf("unknown option %s", f[i])
		}
	}
	return r, nil
}

// versionsOf returns in which tables there are rules among these.
func versionsOf(rules []classRule) (versions []iptables.IPVersion) {
	for _, version := range bothVersions {
		if slices.ContainsFunc(rules, func(r classRule) bool { return r.version() == version }) {
			versions = append(versions, version)
		}
	}
	return versions
}

var bothVersions = []iptables.IPVersion{iptables.IPv4, iptables.IPv6}

// changeRules makes want the rules of those endpoints for which mine is true, in
// the tables of versions.
func changeRules(versions []iptables.IPVersion, mine func(endpoint string) bool, want []classRule) error {
	var errs []error
	for _, version := range versions {
		var w []classRule
		for _, r := range want {
			if r.version() == version {
				w = append(w, r)
			}
		}
		if err := changeRulesOf(version, mine, w); err != nil {
			// A host without ip6tables has no rules in there either.
			if len(w) != 0 || version == iptables.IPv4 {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// changeRulesOf does it in one transaction, since each costs the kernel a wait for
// all its processors.
//
// It begins with what is believed of the table. What somebody else did to it
// meanwhile makes the transaction fail: a chain that is there, is not there, or
// is not empty. Only that a rule of another endpoint or the jump is missing does
// not; setClass finds out about the jump.
func changeRulesOf(version iptables.IPVersion, mine func(string) bool, want []classRule) (err error) {
	t, believed := tables[version]
	for range 3 { // Another daemon may change the chain meanwhile.
		lines, after := t.change(mine, want)
		if !believed || len(lines) == 0 {
			if t, err = readClassTable(version); err != nil {
				return err
			}
			lines, after = t.change(mine, want)
		}
		if len(lines) == 0 {
			return nil
		}
		if err = restore(version, lines); err == nil {
			tables[version] = after
			return nil
		}
		delete(tables, version)
		believed = false
	}
	return err
}

// change returns the commands that change rules, and that make the chain and the
// jump for the first rule and remove them with the last one, and what comes of it.
func (t classTable) change(mine func(string) bool, want []classRule) (lines []string, after classTable) {
	var add, remove []string
	for _, r := range t.rules {
		if mine(r.endpoint) && !slices.Contains(want, r) {
			remove = append(remove, "-D "+r.spec())
		} else {
			after.rules = append(after.rules, r)
		}
	}
	for _, r := range want {
		if !slices.Contains(t.rules, r) {
			add = append(add, "-A "+r.spec())
			after.rules = append(after.rules, r)
		}
	}
	after.chain = len(after.rules) != 0
	after.jump = after.chain
	line := func(needed bool, l string) {
		if needed {
			lines = append(lines, l)
		}
	}
	line(after.chain && !t.chain, "-N "+classChain)
	line(after.jump && !t.jump, "-A "+fromChain+" -j "+classChain)
	lines = slices.Concat(lines, add, remove)
	line(!after.jump && t.jump, "-D "+fromChain+" -j "+classChain)
	line(!after.chain && t.chain, "-X "+classChain)
	return lines, after
}

// restore changes table mangle, all or nothing. Upstream's package runs one
// command at a time.
func restore(version iptables.IPVersion, lines []string) error {
	name := "iptables-restore"
	if version == iptables.IPv6 {
		name = "ip6tables-restore"
	}
	cmd := exec.Command(name, "--wait", "--noflush")
	cmd.Stdin = strings.NewReader("*" + string(iptables.Mangle) + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %s: %w (%s)", name, strings.Join(lines, "; "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// verifyRules reads back the rules of one endpoint.
func verifyRules(versions []iptables.IPVersion, endpoint string, want []classRule) error {
	var found []classRule
	for _, version := range versions {
		t, err := readClassTable(version)
		if err != nil {
			if slices.ContainsFunc(want, func(r classRule) bool { return r.version() == version }) {
				return err
			}
			continue
		}
		for _, r := range t.rules {
			if r.endpoint == endpoint {
				if !t.jump {
					return fmt.Errorf("chain %s of table mangle is not called from %s", classChain, fromChain)
				}
				found = append(found, r)
			}
		}
	}
	for _, r := range want {
		if !slices.Contains(found, r) {
			return fmt.Errorf("table mangle has no rule %s", r.spec())
		}
	}
	if len(found) != len(want) {
		return fmt.Errorf("table mangle has %d rules of endpoint %.12s, want %d", len(found), endpoint, len(want))
	}
	return nil
}
