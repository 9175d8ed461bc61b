// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/libnetwork/iptables"
)

// classChain holds all our rules. It exists, with the jump to it, only while
// there is a rule.
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

func (r classRule) args(action iptables.Action) []string {
	a := []string{"-t", string(iptables.Mangle), string(action), classChain, "-s", netip.PrefixFrom(r.src, r.src.BitLen()).String()}
	if r.out != "" {
		a = append(a, "-o", r.out)
	}
	class := fmt.Sprintf("%x:%x", r.class>>16, r.class&0xffff)
	return append(a, "-m", "comment", "--comment", r.endpoint, "-j", "CLASSIFY", "--set-class", class)
}

func (r classRule) do(action iptables.Action) error {
	return iptables.GetIptable(r.version()).RawCombinedOutput(r.args(action)...)
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

func readClassTable(version iptables.IPVersion) (classTable, error) {
	out, err := iptables.GetIptable(version).Raw("-t", string(iptables.Mangle), "-S")
	if err != nil {
		return classTable{}, err
	}
	return parseClassTable(string(out))
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

// changeRules makes want the rules of those endpoints for which mine is true.
// New rules come before old ones go: of several, the last one counts.
func changeRules(mine func(endpoint string) bool, want []classRule) error {
	var errs []error
	for _, version := range []iptables.IPVersion{iptables.IPv4, iptables.IPv6} {
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

func changeRulesOf(version iptables.IPVersion, mine func(string) bool, want []classRule) error {
	t, err := readClassTable(version)
	if err != nil {
		return err
	}
	ipt := iptables.GetIptable(version)
	if len(want) != 0 && !t.chain {
		if err := ipt.RawCombinedOutput("-t", string(iptables.Mangle), "-N", classChain); err != nil {
			return err
		}
		t.chain = true
	}
	for _, r := range want {
		if !slices.Contains(t.rules, r) {
			if err := r.do(iptables.Append); err != nil {
				return err
			}
			t.rules = append(t.rules, r)
		}
	}
	if len(want) != 0 && !t.jump {
		if err := ipt.RawCombinedOutput("-t", string(iptables.Mangle), "-A", fromChain, "-j", classChain); err != nil {
			return err
		}
		t.jump = true
	}
	var kept []classRule
	for _, r := range t.rules {
		if mine(r.endpoint) && !slices.Contains(want, r) {
			if err := r.do(iptables.Delete); err != nil {
				return err
			}
			continue
		}
		kept = append(kept, r)
	}
	if len(kept) != 0 {
		return nil
	}
	if t.jump {
		if err := ipt.RawCombinedOutput("-t", string(iptables.Mangle), "-D", fromChain, "-j", classChain); err != nil {
			return err
		}
	}
	if t.chain {
		return ipt.RawCombinedOutput("-t", string(iptables.Mangle), "-X", classChain)
	}
	return nil
}

// verifyRules reads back the rules of one endpoint.
func verifyRules(endpoint string, want []classRule) error {
	var found []classRule
	for _, version := range []iptables.IPVersion{iptables.IPv4, iptables.IPv6} {
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
			return fmt.Errorf("table mangle has no rule %s", strings.Join(r.args(iptables.Append), " "))
		}
	}
	if len(found) != len(want) {
		return fmt.Errorf("table mangle has %d rules of endpoint %.12s, want %d", len(found), endpoint, len(want))
	}
	return nil
}
