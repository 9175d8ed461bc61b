// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// On a kernel without nf_tables the classes of packets are rules of the table mangle of
// iptables, in the tree of tree_linux.go. All of an owner is in chains DOCKER-L-OWNER-*;
// what others have in the table stays, and what they put into these chains goes behind
// ours, or is kept in a chain that is otherwise empty.
//
// The kernel tells nobody of a change of these tables. It does tell how many rules and
// bytes one has: [iptables.stale] asks for that.

// inet is a family of addresses in iptables.
type inet struct {
	v6         bool
	name       string // of the program
	domain     int    // of a socket that leads to the table
	level      int
	restore    string // paths of programs
	save       string
	unusable   error // why there are no such programs
	socket     int
	tableNames string
}

type iptables struct {
	*iptablesConn
	owner string
}

type iptablesConn struct {
	netns    int
	families []*inet
}

// roots are our chains that the kernel's own jump to.
func roots(owner string) map[string]string {
	return map[string]string{"POSTROUTING": routedChain(owner), "OUTPUT": localChain(owner)}
}

// mangleTable is what was read of one family.
type mangleTable struct {
	chains map[string]*chainOf // of all owners
	jumps  map[string][]string // targets of ours that a chain of the kernel's own has a rule for
	inWay  map[string]string   // the rule of somebody else before the first of them
	used   map[string]bool     // chains of ours that rules of others go to
	stamp  stamp
}

// stamp is what IPT_SO_GET_INFO tells of a table: where its chains begin, how many rules
// and bytes there are.
type stamp [84]byte

func openIptables(ns netns.NsHandle, owner string) (*iptables, error) {
	if len(owner) > maxOwner {
		return nil, fmt.Errorf("%q is too long for names of iptables", owner)
	}
	c := &iptablesConn{netns: int(ns), families: []*inet{
		{name: "iptables", domain: unix.AF_INET, level: unix.SOL_IP, tableNames: "ip_tables_names"},
		{name: "ip6tables", domain: unix.AF_INET6, level: unix.SOL_IPV6, tableNames: "ip6_tables_names", v6: true},
	}}
	for _, f := range c.families {
		f.socket = -1
		f.restore, f.save, f.unusable = legacyPrograms(f.name)
		err := inNetNS(c.netns, func() (err error) {
			f.socket, err = unix.Socket(f.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			return err
		})
		if err != nil {
			f.socket = -1
			f.unusable = cmp.Or(f.unusable, fmt.Errorf("socket for %s: %w", f.name, err))
		}
	}
	if err := c.families[0].unusable; err != nil {
		(&iptables{c, owner}).close()
		return nil, err
	}
	return &iptables{c, owner}, nil
}

// legacyPrograms finds those that do not need nf_tables themselves.
func legacyPrograms(name string) (restore, save string, err error) {
	for _, name := range []string{name + "-legacy", name} {
		path, lookErr := exec.LookPath(name)
		if lookErr != nil {
			err = cmp.Or(err, lookErr)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), programTimeout)
		defer cancel()
		if out, verErr := exec.CommandContext(ctx, path, "--version").Output(); verErr != nil || bytes.Contains(out, []byte("nf_tables")) {
			err = fmt.Errorf("%s is one that needs nf_tables itself, and there is no legacy one (%w)", path, errors.Join(verErr, err))
			continue
		}
		if restore, err = exec.LookPath(name + "-restore"); err == nil {
			save, err = exec.LookPath(name + "-save")
		}
		return restore, save, err
	}
	return "", "", err
}

const programTimeout = 30 * time.Second

func (i *iptables) String() string { return "table mangle of iptables" }

func (i *iptables) of(owner string) backend { return &iptables{i.iptablesConn, owner} }

func (i *iptables) redirectsTo(int) (bool, error) { return false, nil }

func (i *iptables) close() {
	for _, f := range i.families {
		if f.socket >= 0 {
			_ = unix.Close(f.socket)
		}
	}
}

// run runs a program in the network namespace.
func (i *iptables) run(input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), programTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := inNetNS(i.netns, cmd.Run); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.Join(strings.Fields(stderr.String()), " "))
	}
	return stdout.String(), nil
}

// has tells whether the network namespace has a table mangle: to ask iptables makes one.
func (i *iptables) has(f *inet) (there bool, err error) {
	err = inNetNS(i.netns, func() error {
		names, err := os.ReadFile("/proc/thread-self/net/" + f.tableNames)
		there = slices.Contains(strings.Fields(string(names)), "mangle")
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return there, err
}

// info asks the kernel for the stamp of a table.
func (i *iptables) info(f *inet) (s stamp, err error) {
	const getInfo = 64 // IPT_SO_GET_INFO and IP6T_SO_GET_INFO
	copy(s[:], "mangle")
	size := uint32(len(s))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(f.socket), uintptr(f.level), getInfo, uintptr(unsafe.Pointer(&s)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return stamp{}, errno
	}
	return s, nil
}

func (i *iptables) stale(is *tables) bool {
	for _, f := range i.families {
		if before := is.mangle[f.v6]; before != nil {
			if now, err := i.info(f); err == nil && now != before.stamp {
				return true
			}
		}
	}
	return false
}

func (i *iptables) load(f *inet) (*mangleTable, error) {
	if there, err := i.has(f); !there || err != nil {
		return nil, err
	}
	if f.unusable != nil {
		return nil, f.unusable
	}
	// First, so that what is changed while it is read is looked at once more.
	stamp, err := i.info(f)
	if err != nil {
		return nil, fmt.Errorf("table mangle of %s: %w", f.name, err)
	}
	text, err := i.run("", f.save, "-t", "mangle")
	if err != nil {
		return nil, err
	}
	m := parseMangle(text, f.v6)
	m.stamp = stamp
	return m, nil
}

func parseMangle(text string, v6 bool) *mangleTable {
	m := &mangleTable{chains: map[string]*chainOf{}, jumps: map[string][]string{}, inWay: map[string]string{}, used: map[string]bool{}}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if decl, ok := strings.CutPrefix(line, ":"); ok {
			if name, _, _ := strings.Cut(decl, " "); strings.HasPrefix(name, chainPrefix) {
				m.chains[name] = &chainOf{}
			}
			continue
		}
		line, ok := strings.CutPrefix(line, "-A ")
		if !ok {
			continue
		}
		name, rule, _ := strings.Cut(line, " ")
		c := m.chains[name]
		if c == nil {
			m.add(name, rule)
			continue
		}
		if r, ok := parseRule(rule, v6); !ok {
			c.foreign = append(c.foreign, rule)
			m.uses(rule)
		} else if len(c.foreign) == 0 {
			c.ours = append(c.ours, r)
		} else { // it counts as lost: packets may not get there
			c.hidden = true
		}
	}
	return m
}

// add notes a rule of a chain that is not ours.
func (m *mangleTable) add(chain, rule string) {
	if to, ok := strings.CutPrefix(rule, "-j "+chainPrefix); ok && !strings.Contains(to, " ") {
		m.jumps[chain] = append(m.jumps[chain], chainPrefix+to)
		return
	}
	m.uses(rule)
	if len(m.jumps[chain]) == 0 && m.inWay[chain] == "" && mayEnd(rule) {
		m.inWay[chain] = rule
	}
}

// uses notes that a rule of somebody else goes to a chain of ours.
func (m *mangleTable) uses(rule string) {
	words := splitRule(rule)
	for i, w := range words {
		if (w == "-j" || w == "-g") && i+1 < len(words) && strings.HasPrefix(words[i+1], chainPrefix) {
			m.used[words[i+1]] = true
		}
	}
}

// goesOn are the targets after which a packet goes on to the next rule.
var goesOn = []string{
	"CHECKSUM", "CLASSIFY", "CONNMARK", "CONNSECMARK", "DSCP", "ECN", "HL", "LOG", "MARK", "NFLOG", "SECMARK", "TCPMSS", "TCPOPTSTRIP", "TOS", "TTL",
}

// mayEnd tells whether a rule may keep packets from those behind it.
func mayEnd(rule string) bool {
	words := splitRule(rule)
	for i, w := range words {
		if w == "-g" || w == "-j" && i+1 < len(words) && !slices.Contains(goesOn, words[i+1]) {
			return true
		}
	}
	return false
}

// hooked tells whether packets get to the root of an owner, of all that it should see.
func (m *mangleTable) hooked(chain, root string) bool {
	return m.inWay[chain] == "" && len(filter(m.jumps[chain], func(to string) bool { return to == root })) == 1
}

func filter[T any](list []T, keep func(T) bool) (kept []T) {
	for _, x := range list {
		if keep(x) {
			kept = append(kept, x)
		}
	}
	return kept
}

// read returns those elements that packets find.
func (i *iptables) read() (*tables, error) {
	is := newTables()
	for _, f := range i.families {
		m, err := i.load(f)
		if err != nil {
			return nil, err
		}
		if m != nil {
			is.mangle[f.v6] = m
			m.elements(i.owner, is)
		}
	}
	return is, nil
}

func (m *mangleTable) elements(owner string, is *tables) {
	hooked := map[string]bool{}
	for chain, root := range roots(owner) {
		hooked[root] = m.hooked(chain, root)
	}
	for name, c := range m.chains {
		if !strings.HasPrefix(name, chainPrefix+owner+"-") {
			continue
		}
		for _, r := range c.ours {
			root := routedChain(owner)
			if r.proto != 0 {
				root = localChain(owner)
			}
			if r.to == "" && hooked[root] && slices.Contains(find(m.chains, root, r.key()), r) {
				kind, key := r.element()
				is.add(kind, key, priority(r.class), r.endpoint)
			}
		}
	}
}

// element is what a rule that gives a class is made from: see treeOf.
func (r chainRule) element() (kind string, key []byte) {
	kind = "class"
	if r.proto != 0 {
		kind = "port-class"
	}
	if r.out != "" {
		kind = strings.Replace(kind, "class", "prio", 1)
	}
	if r.src.IsValid() {
		kind += map[bool]string{true: "4", false: "6"}[r.src.Addr().Is4()]
		key = r.src.Addr().AsSlice()
	}
	if r.proto != 0 {
		key = append(key, r.proto, 0, 0, 0, byte(r.first>>8), byte(r.first), 0, 0)
	}
	if r.out != "" {
		key = append(key, ifname(r.out)...)
	}
	return kind, key
}

// treeKinds are the kinds of elements that the tree holds.
func treeKind(kind string) bool {
	k := kindOf(kind)
	return k.chain == chainRouted || k.chain == chainLocal
}

func (i *iptables) missing(is, should *tables, e *endpoint) func(string) error {
	return func(kind string) error {
		if kind == fromPPS || kind == toPPS {
			return errNoPPS
		}
		if !treeKind(kind) {
			return nil
		}
		for key, want := range should.elements[kind] {
			if have := is.elements[kind][key]; have != want {
				return fmt.Errorf("table mangle of iptables has lost a rule of %s", kind)
			}
		}
		return nil
	}
}

var errNoPPS = errors.New("a kernel without nf_tables has nothing that counts packets of one interface")

// change is one transaction for each family.
func (i *iptables) change(is, should *tables) (*tables, error) {
	var errs []error
	changed := false
	for _, f := range i.families {
		m := is.mangle[f.v6]
		want := treeOf(i.owner, f.v6, should.elements)
		lines, err := m.difference(i.owner, want)
		if err == nil && len(lines) == 0 {
			continue
		}
		if err == nil && f.unusable != nil {
			if m == nil && !i.hasAddresses(f) {
				continue
			}
			err = f.unusable
		}
		if err == nil {
			changed = true
			_, err = i.run("*mangle\n"+strings.Join(lines, "\n")+"\nCOMMIT\n", f.restore, "--noflush", "-w", "10")
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil || !changed {
		return is, err
	}
	return i.read()
}

// hasAddresses tells whether the network namespace has a family at all.
func (i *iptables) hasAddresses(f *inet) bool {
	if !f.v6 {
		return true
	}
	there := false
	_ = inNetNS(i.netns, func() error {
		_, err := os.Stat("/proc/thread-self/net/if_inet6")
		there = err == nil
		return nil
	})
	return there
}

// difference is what iptables-restore is told to bring a table, nil if there is none,
// to the chains that should be.
func (m *mangleTable) difference(owner string, want map[string][]chainRule) ([]string, error) {
	if m == nil {
		m = &mangleTable{}
	}
	var decls, rules, jumps, gone []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		for _, r := range want[name] {
			if strings.HasSuffix(r.out, "+") {
				return nil, fmt.Errorf("iptables cannot tell interface %s from others", r.out)
			}
		}
		have := m.chains[name]
		if have != nil && !have.hidden && slices.Equal(have.ours, want[name]) {
			continue
		}
		decls = append(decls, ":"+name+" - [0:0]") // empties one that is there
		for _, r := range want[name] {
			rules = append(rules, "-A "+name+" "+r.String())
		}
		if have != nil {
			for _, r := range have.foreign {
				rules = append(rules, "-A "+name+" "+r)
			}
		}
	}
	for chain, root := range roots(owner) {
		have := filter(m.jumps[chain], func(to string) bool { return to == root })
		needed := want[root] != nil
		if needed && m.hooked(chain, root) || !needed && len(have) == 0 {
			continue
		}
		for range have {
			jumps = append(jumps, fmt.Sprintf("-D %s -j %s", chain, root))
		}
		if needed {
			jumps = append(jumps, fmt.Sprintf("-I %s 1 -j %s", chain, root))
		}
	}
	slices.Sort(jumps) // -D before -I
	for _, name := range slices.Sorted(maps.Keys(m.chains)) {
		have := m.chains[name]
		if want[name] != nil || !strings.HasPrefix(name, chainPrefix+owner+"-") {
			continue
		}
		kept := len(have.foreign) != 0 || m.used[name]
		if kept && len(have.ours) == 0 && !have.hidden {
			continue
		}
		decls = append(decls, ":"+name+" - [0:0]")
		for _, r := range have.foreign {
			rules = append(rules, "-A "+name+" "+r)
		}
		if !kept {
			gone = append(gone, "-X "+name)
		}
	}
	return slices.Concat(decls, rules, jumps, gone), nil
}

func (i *iptables) owners() (owners []string, _ error) {
	for _, f := range i.families {
		m, err := i.load(f)
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		for name := range m.chains {
			owner, _, ok := strings.Cut(strings.TrimPrefix(name, chainPrefix), "-")
			if ok && !slices.Contains(owners, owner) {
				owners = append(owners, owner)
			}
		}
	}
	return owners, nil
}
