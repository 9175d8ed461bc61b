// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// What other programs of the host do to what limits a container's network, and
// what dockerd does about it.

// noticed is how long dockerd may take to put back what was taken away. An emulated
// machine gets more.
func noticed() time.Duration {
	if os.Getenv("NET_UNIT") != "" {
		return 20 * time.Second
	}
	return 2 * time.Second
}

// within fails the test unless ready returns nil in a time.
func within(t *testing.T, limit time.Duration, what string, ready func() error) {
	t.Helper()
	begin := time.Now()
	for {
		// Whoever looks late on a busy machine has not seen a failure.
		last := time.Since(begin) > limit
		err := ready()
		if err == nil {
			if took := time.Since(begin); took > limit/4 {
				t.Logf("%s: %v", what, took.Round(time.Millisecond))
			}
			return
		}
		if last {
			t.Fatalf("%s: not in %v: %v", what, limit, err)
		}
		pause()
	}
}

// setupHands is a host with a daemon for one test, which may take anything away.
// Packets find their way without address translation as well.
func setupHands(t *testing.T, args ...string) (netHost, *daemon.Daemon) {
	t.Helper()
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	h.outside.Must(t, "ip", "route", "add", "172.16.0.0/12", "via", "203.0.113.1")
	// Nor does it matter to them that dockerd writes its filter rules anew when it
	// starts. It has no rule that drops what a host forwards if that did so before.
	h.Must(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	d := daemon.NewIn(t, h.NS, append([]string{"--live-restore"}, args...)...)
	h.Must(t, "iptables", "-I", "DOCKER-USER", "-j", "ACCEPT")
	return h, d
}

// box is a running container on one network.
type box struct {
	h       netHost
	d       *daemon.Daemon
	name    string
	network string
	addr    string
	pid     int
	peer    int // the index of its interface on the host
}

// runBox starts a container that serves.
func runBox(t *testing.T, h netHost, d *daemon.Daemon, name string, flags ...string) *box {
	t.Helper()
	d.Must(t, append(append([]string{"run", "-d", "--name=" + name}, flags...), "busybox", "sleep", "inf")...)
	return findBox(t, h, d, name)
}

// findBox is for a container that runs, again after each start of it.
func findBox(t *testing.T, h netHost, d *daemon.Daemon, name string) *box {
	t.Helper()
	var c struct {
		State           struct{ Pid int }
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	r := d.API(t, http.MethodGet, "/containers/"+name+"/json", "")
	assert.NilError(t, json.Unmarshal(r.Body, &c))
	assert.Equal(t, len(c.NetworkSettings.Networks), 1, "%s", r.Body)
	b := &box{h: h, d: d, name: name, pid: c.State.Pid}
	for network, at := range c.NetworkSettings.Networks {
		b.network, b.addr = network, at.IPAddress
	}
	var links []struct {
		Peer int `json:"link_index"`
	}
	assert.NilError(t, json.Unmarshal([]byte(b.must(t, "ip", "-j", "link", "show", "dev", "eth0")), &links))
	b.peer = links[0].Peer
	serve(t, d, name)
	return b
}

// do calls f in the container's network. It keeps no hold of that: the interfaces
// would outlive the container.
func (b *box) do(f func() error) error {
	return b.h.Do(func() error {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", b.pid))
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return f()
	})
}

// run runs a program of the host in the container's network.
func (b *box) run(args ...string) (string, error) {
	var out []byte
	err := b.do(func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s, %s: %w: %s", b.name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (b *box) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.run(args...)
	assert.NilError(t, err)
	return out
}

// hostLink is a link as ip shows it.
type hostLink struct {
	Index    int      `json:"ifindex"`
	Name     string   `json:"ifname"`
	Flags    []string `json:"flags"`
	AltNames []string `json:"altnames"`
}

func (h netHost) readJSON(v any, args ...string) error {
	out, err := h.Run(args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (h netHost) links() ([]hostLink, error) {
	var links []hostLink
	err := h.readJSON(&links, "ip", "-j", "-d", "link", "show")
	return slices.DeleteFunc(links, func(l hostLink) bool { return l.Name == "" }), err
}

// end is the host's end of the container's interface.
func (b *box) end() (hostLink, error) {
	links, err := b.h.links()
	if err != nil {
		return hostLink{}, err
	}
	i := slices.IndexFunc(links, func(l hostLink) bool { return l.Index == b.peer })
	if i < 0 {
		return hostLink{}, fmt.Errorf("%s: the host has no link %d", b.name, b.peer)
	}
	return links[i], nil
}

func (b *box) veth(t *testing.T) string {
	t.Helper()
	l, err := b.end()
	assert.NilError(t, err)
	return l.Name
}

// nftables is a rule set.
type nftables struct {
	chains []nftChain
	sets   []nftSet
}

type nftChain struct {
	Family, Table, Name string
	devs                []string
	rules               []map[string]json.RawMessage // statements, of all rules
}

// nftSet is a map, or a set, whose elements have no value.
type nftSet struct {
	Family, Table, Name string
	isMap               bool
	elements            [][2]any
}

const ourTable = "docker-limits-"

var (
	chainDevices = regexp.MustCompile(`hook ingress devices? (?:= )?(.*) priority`)
	quoted       = regexp.MustCompile(`"([^"]*)"`)
)

// ours is what dockerds have in their tables.
func (h netHost) ours() (n nftables, err error) {
	type set struct {
		Family, Table, Name string
		Elem                []json.RawMessage
	}
	type object struct {
		Chain    *nftChain
		Map, Set *set
		Rule     *struct {
			Family, Table, Chain string
			Expr                 []map[string]json.RawMessage
		}
	}
	var objects []object
	tables, err := h.Run("nft", "list", "tables")
	if err != nil {
		return n, err
	}
	for line := range strings.Lines(tables) {
		table := strings.Fields(line)
		if len(table) != 3 || !strings.HasPrefix(table[2], ourTable) {
			continue
		}
		// nft 1.0.6 has no JSON for a table that is a program's, as takeTable makes it.
		if text, err := h.Run("nft", "list", "table", table[1], table[2]); err != nil || strings.Contains(text, "flags owner") {
			continue
		}
		var part struct{ Nftables []object }
		if err := h.readJSON(&part, "nft", "-j", "list", "table", table[1], table[2]); err != nil {
			return n, err
		}
		objects = append(objects, part.Nftables...)
	}
	// JSON does not tell the devices of a chain.
	text, err := h.Run("nft", "list", "chains", "netdev")
	if err != nil {
		return n, err
	}
	devs := map[string][]string{}
	var table, chain string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 4 && f[0] == "table":
			table = f[2]
		case len(f) == 3 && f[0] == "chain":
			chain = f[1]
		}
		if m := chainDevices.FindStringSubmatch(line); m != nil {
			for _, dev := range quoted.FindAllStringSubmatch(m[1], -1) {
				devs[table+" "+chain] = append(devs[table+" "+chain], dev[1])
			}
		}
	}
	for _, o := range objects {
		switch {
		case o.Chain != nil && strings.HasPrefix(o.Chain.Table, ourTable):
			if o.Chain.Family == "netdev" {
				o.Chain.devs = devs[o.Chain.Table+" "+o.Chain.Name]
			}
			n.chains = append(n.chains, *o.Chain)
		case o.Set != nil && strings.HasPrefix(o.Set.Table, ourTable):
			n.sets = append(n.sets, nftSet{o.Set.Family, o.Set.Table, o.Set.Name, false, nil})
		case o.Map != nil && strings.HasPrefix(o.Map.Table, ourTable):
			m := nftSet{o.Map.Family, o.Map.Table, o.Map.Name, true, nil}
			for _, e := range o.Map.Elem {
				var pair [2]any
				if err := json.Unmarshal(e, &pair); err != nil {
					return n, fmt.Errorf("element %s: %w", e, err)
				}
				m.elements = append(m.elements, pair)
			}
			n.sets = append(n.sets, m)
		case o.Rule != nil && strings.HasPrefix(o.Rule.Table, ourTable):
			for i, c := range n.chains {
				if c.Family == o.Rule.Family && c.Table == o.Rule.Table && c.Name == o.Rule.Chain {
					n.chains[i].rules = append(c.rules, o.Rule.Expr...)
				}
			}
		}
	}
	return n, nil
}

// forward is where a chain, or one that it jumps to, sends what comes in by dev.
func (n nftables) forward(c nftChain, dev string) string {
	for _, statement := range c.rules {
		var jump struct{ Target string }
		if json.Unmarshal(statement["jump"], &jump) == nil {
			for _, to := range n.chains {
				if to.Family != c.Family || to.Table != c.Table || to.Name != jump.Target {
					continue
				}
				if ifb := n.forward(to, dev); ifb != "" {
					return ifb
				}
			}
		}
		var direct struct{ Dev string }
		if json.Unmarshal(statement["fwd"], &direct) == nil {
			return direct.Dev
		}
		var mapped struct {
			Dev struct{ Map struct{ Data string } }
		}
		if json.Unmarshal(statement["fwd"], &mapped) != nil {
			continue
		}
		for _, m := range n.sets {
			if m.Family != c.Family || m.Table != c.Table || "@"+m.Name != mapped.Dev.Map.Data {
				continue
			}
			for _, e := range m.elements {
				if slices.Equal(keyParts(e[0]), []string{dev}) {
					return fmt.Sprint(e[1])
				}
			}
		}
	}
	return ""
}

// ifbOf is where what the host gets by dev goes.
func (n nftables) ifbOf(dev string) string {
	for _, c := range n.chains {
		if slices.Contains(c.devs, dev) {
			if ifb := n.forward(c, dev); ifb != "" {
				return ifb
			}
		}
	}
	return ""
}

// guards tells whether dev has all that a class or priorities consist of but the maps
// by address: only its own sources pass, and what is bridged has the class as well.
func (n nftables) guards(dev string) bool {
	sources, bridged := false, false
	for _, c := range n.chains {
		for _, statement := range c.rules {
			var jump struct{ Target string }
			sources = sources || slices.Contains(c.devs, dev) && json.Unmarshal(statement["jump"], &jump) == nil && jump.Target == "sources"
		}
	}
	for _, s := range n.sets {
		for _, e := range s.elements {
			parts := keyParts(e[0])
			bridged = bridged || s.Family == "bridge" && len(parts) > 0 && parts[0] == dev
		}
	}
	return sources && bridged
}

// tables are the families and names of the dockerds' tables.
func (h netHost) tables(t *testing.T) (tables []string) {
	t.Helper()
	for line := range strings.Lines(h.Must(t, "nft", "list", "tables")) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[2], ourTable) {
			tables = append(tables, f[1]+" "+f[2])
		}
	}
	return tables
}

// mustTables is tables where there have to be some.
func (h netHost) mustTables(t *testing.T) []string {
	t.Helper()
	tables := h.tables(t)
	assert.Assert(t, len(tables) > 0, "no table of nftables is called %s*", ourTable)
	return tables
}

// keyParts are the values that a key consists of.
func keyParts(key any) []string {
	switch k := key.(type) {
	case string:
		return []string{k}
	case float64:
		return []string{fmt.Sprint(int64(k))}
	case map[string]any:
		if list, ok := k["concat"].([]any); ok {
			var parts []string
			for _, e := range list {
				parts = append(parts, keyParts(e)...)
			}
			return parts
		}
		if e, ok := k["elem"].(map[string]any); ok {
			return keyParts(e["val"])
		}
	}
	return nil
}

// priority reads what nft prints of a packet's priority.
func priority(v any) (uint32, error) {
	switch v := v.(type) {
	case float64:
		return uint32(v), nil
	case string:
		if major, minor, ok := strings.Cut(v, ":"); ok {
			a, err := strconv.ParseUint(major, 16, 16)
			b, err2 := strconv.ParseUint(minor, 16, 16)
			return uint32(a<<16 | b), errors.Join(err, err2)
		}
		switch v {
		case "none":
			return 0, nil
		case "root":
			return 0xffffffff, nil
		}
		n, err := strconv.ParseUint(v, 0, 32)
		return uint32(n), err
	}
	return 0, fmt.Errorf("no priority: %v", v)
}

// netEndpoint is an element of inspect's NetLimitEndpoints.
type netEndpoint struct {
	Network, Interface      string
	EgressRate, IngressRate int64
	ClassID                 uint32
	Priorities              []netPriority
}

type netPriority struct {
	Interface string
	Priority  uint32
}

func (e netEndpoint) String() string {
	slices.SortFunc(e.Priorities, func(a, b netPriority) int { return strings.Compare(a.Interface, b.Interface) })
	return fmt.Sprintf("%s on %s: egress %d, ingress %d, class %x, priorities %v", e.Network, e.Interface, e.EgressRate, e.IngressRate, e.ClassID, e.Priorities)
}

// rates are those of dockerd's tbf at the roots of links.
func (h netHost) rates() (map[string]int64, error) {
	var list []struct {
		Kind, Handle, Dev string
		Root              bool
		Options           struct{ Rate int64 }
	}
	err := h.readJSON(&list, "tc", "-j", "qdisc", "show")
	rates := map[string]int64{}
	for _, q := range list {
		if q.Kind == "tbf" && q.Root && (q.Handle == "d0c:" || q.Handle == "d0d:") {
			rates[q.Dev] = q.Options.Rate * 8
		}
	}
	return rates, err
}

// kernel is what tc and nft show to be in force.
func (b *box) kernel() (netEndpoint, error) {
	e := netEndpoint{Network: b.network}
	links, err := b.h.links()
	if err != nil {
		return e, err
	}
	up := map[string]bool{}
	for _, l := range links {
		if l.Index == b.peer {
			e.Interface = l.Name
		}
		up[l.Name] = slices.Contains(l.Flags, "UP")
	}
	if e.Interface == "" {
		return e, fmt.Errorf("%s: the host has no link %d", b.name, b.peer)
	}
	rates, err := b.h.rates()
	if err != nil {
		return e, err
	}
	e.IngressRate = rates[e.Interface]
	ours, err := b.h.ours()
	if err != nil {
		return e, err
	}
	if ifb := ours.ifbOf(e.Interface); ifb != "" {
		if !up[ifb] {
			return e, fmt.Errorf("%s: what %s gets goes to %s, which is not up", b.name, e.Interface, ifb)
		}
		e.EgressRate = rates[ifb]
	}
	for _, m := range ours.sets {
		if m.Family != "inet" || !m.isMap {
			continue
		}
		for _, el := range m.elements {
			parts := keyParts(el[0])
			i := slices.Index(parts, b.addr)
			if i < 0 {
				continue
			}
			n, err := priority(el[1])
			if err != nil {
				return e, fmt.Errorf("map %s: %w", m.Name, err)
			}
			switch parts = slices.Delete(parts, i, i+1); len(parts) {
			case 0:
				e.ClassID = n
			case 1:
				e.Priorities = append(e.Priorities, netPriority{parts[0], n})
			}
		}
	}
	return e, nil
}

// inspected is what inspect tells of a container's network limits.
type inspected struct {
	HostConfig struct {
		NetEgressRate, NetIngressRate int64
		NetClassID                    uint32
		NetPriorities                 []netPriority
	}
	LimitsNotInForce  []string
	NetLimitEndpoints []netEndpoint
}

func (b *box) inspect() (c inspected, err error) {
	r, err := b.d.TryAPI(http.MethodGet, "/containers/"+b.name+"/json", "")
	if err != nil {
		return c, err
	}
	if r.Status != http.StatusOK {
		return c, fmt.Errorf("inspect %s: %d %s", b.name, r.Status, r.Message())
	}
	return c, json.Unmarshal(r.Body, &c)
}

// agrees compares what inspect tells with what the kernel has. It returns the
// limits that are lost.
func (b *box) agrees() (lost []string, _ error) {
	kernel, err := b.kernel()
	if err != nil {
		return nil, err
	}
	c, err := b.inspect()
	if err != nil {
		return nil, err
	}
	want := netEndpoint{
		Network: b.network, Interface: kernel.Interface, EgressRate: max(c.HostConfig.NetEgressRate, 0), IngressRate: max(c.HostConfig.NetIngressRate, 0),
		ClassID: c.HostConfig.NetClassID, Priorities: c.HostConfig.NetPriorities,
	}
	ours, err := b.h.ours()
	if err != nil {
		return nil, err
	}
	guarded := ours.guards(kernel.Interface)
	for field, differs := range map[string]bool{
		"NetEgressRate":  kernel.EgressRate != want.EgressRate,
		"NetIngressRate": kernel.IngressRate != want.IngressRate,
		"NetClassID":     kernel.ClassID != want.ClassID || want.ClassID != 0 && !guarded,
		"NetPriorities":  (netEndpoint{Priorities: kernel.Priorities}).String() != (netEndpoint{Priorities: want.Priorities}).String() || len(want.Priorities) != 0 && !guarded,
	} {
		if differs {
			lost = append(lost, field)
		}
	}
	slices.Sort(lost)
	var said []string
	for _, text := range c.LimitsNotInForce {
		field, _, _ := strings.Cut(text, " on network "+b.network+": ")
		said = append(said, field)
	}
	slices.Sort(said)
	state := fmt.Sprintf("want %v, the kernel has %v, inspect: NetLimitEndpoints %v, LimitsNotInForce %q", want, kernel, c.NetLimitEndpoints, c.LimitsNotInForce)
	switch {
	case !slices.Equal(lost, said):
		return lost, fmt.Errorf("%s: lost are %q: %s", b.name, lost, state)
	case want.EgressRate == 0 && want.IngressRate == 0 && want.ClassID == 0 && len(want.Priorities) == 0 && len(c.NetLimitEndpoints) == 0:
		return lost, nil
	case len(c.NetLimitEndpoints) != 1 || c.NetLimitEndpoints[0].String() != kernel.String():
		return lost, fmt.Errorf("%s: inspect and the kernel differ: %s", b.name, state)
	}
	return lost, nil
}

// holds tells whether all limits are in force, and inspect says so.
func (b *box) holds() error {
	lost, err := b.agrees()
	if err == nil && len(lost) != 0 {
		c, _ := b.inspect()
		err = fmt.Errorf("%s: lost are %q, LimitsNotInForce %q", b.name, lost, c.LimitsNotInForce)
	}
	return err
}

// wantHeld fails the test unless all limits are in force in time.
func (b *box) wantHeld(t *testing.T, what string) {
	t.Helper()
	within(t, noticed(), what, b.holds)
}

// wantLost fails the test unless these limits, and no others, are shown as lost.
func (b *box) wantLost(t *testing.T, what string, fields ...string) {
	t.Helper()
	within(t, noticed(), what, func() error {
		lost, err := b.agrees()
		if err == nil && !slices.Equal(lost, fields) {
			err = fmt.Errorf("lost are %q, want %q", lost, fields)
		}
		return err
	})
}

// reaches tells whether a packet of the container gets to the outside and back.
func (b *box) reaches() error {
	_, err := b.run("busybox", "ping", "-c1", "-W1", outside4)
	return err
}

// reachesHost is reaches for when dockerd's own rules are gone: it makes one that
// lets no answer from outside in without address translation.
func (b *box) reachesHost() error {
	out, err := b.run("ip", "-j", "route", "show", "default")
	if err != nil {
		return err
	}
	var routes []struct{ Gateway string }
	if err := json.Unmarshal([]byte(out), &routes); err != nil || len(routes) == 0 {
		return fmt.Errorf("%s: no default route: %s", b.name, out)
	}
	_, err = b.run("busybox", "ping", "-c1", "-W1", routes[0].Gateway)
	return err
}

// class is classOf on a host with a daemon of one test, whose interfaces are so new
// that their own packets come in between.
func (b *box) class(t *testing.T) string {
	t.Helper()
	before := b.h.sent(t)
	b.must(t, "busybox", "ping", "-c20", "-i", "0.02", "-W5", outside4)
	after := b.h.sent(t)
	most := ""
	for class, n := range after {
		if most == "" || n-before[class] > after[most]-before[most] {
			most = class
		}
	}
	assert.Assert(t, after[most]-before[most] >= 20, "%v, then %v", before, after)
	return most
}

// wantNoForgery fails the test if another source address would give packets another
// class.
func (b *box) wantNoForgery(t *testing.T) {
	t.Helper()
	const forged = "172.17.255.250"
	b.must(t, "ip", "addr", "add", forged+"/32", "dev", "eth0")
	out, err := b.run("busybox", "ping", "-c1", "-W1", "-I", forged, outside4)
	assert.Check(t, err != nil, "a packet with another source passed: %s", out)
	b.must(t, "ip", "addr", "del", forged+"/32", "dev", "eth0")
}

func (b *box) wantReach(t *testing.T, what string) {
	t.Helper()
	within(t, noticed(), what+": traffic", b.reaches)
}

var pinged = regexp.MustCompile(`(\d+) packets transmitted, (\d+) packets received`)

// pinging pings the outside ten times a second until the returned function is called.
func (b *box) pinging(t *testing.T) (stop func() (sent, lost int)) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("busybox", "ping", "-i", "0.1", outside4)
	cmd.Stdout, cmd.Stderr = &out, &out
	assert.NilError(t, b.do(cmd.Start))
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() (sent, lost int) {
		t.Helper()
		assert.NilError(t, cmd.Process.Signal(unix.SIGINT))
		_ = cmd.Wait()
		m := pinged.FindStringSubmatch(out.String())
		assert.Assert(t, m != nil, out.String())
		sent, _ = strconv.Atoi(m[1])
		got, _ := strconv.Atoi(m[2])
		return sent, sent - got
	}
}

// allLeftovers is leftovers once no table is left, if that comes.
func (h netHost) allLeftovers(t *testing.T) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); len(h.tables(t)) > 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	return h.leftovers(t)
}

// limitEvents are what happened to a container's limits, oldest first.
func limitEvents(t *testing.T, d *daemon.Daemon, name string, since time.Time) (events []string) {
	t.Helper()
	out := d.Must(t, "events", "--since", since.Format(time.RFC3339Nano), "--until", nextSecond(), "--filter", "container="+name, "--filter", "event=limit_lost", "--filter", "event=limit_restored",
		"--format", "{{.Action}} {{.Actor.Attributes.limit}} {{.Actor.Attributes.network}} {{.Actor.Attributes.reason}}")
	for line := range strings.Lines(out) {
		events = append(events, strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "<no value>")))
	}
	return events
}

// wantPaired fails the test unless each limit that was lost was restored.
func wantPaired(t *testing.T, d *daemon.Daemon, name string, since time.Time) {
	t.Helper()
	within(t, noticed(), "events", func() error {
		events := limitEvents(t, d, name, since)
		lost := map[string]bool{}
		for _, e := range events {
			f := strings.Fields(e)
			if len(f) < 3 || lost[f[1]] == (f[0] == "limit_lost") {
				return fmt.Errorf("not in pairs: %q", events)
			}
			lost[f[1]] = f[0] == "limit_lost"
		}
		for limit, is := range lost {
			if is {
				return fmt.Errorf("%s is not restored: %q", limit, events)
			}
		}
		return nil
	})
}

// hand is what another program does once.
type hand struct {
	name string
	do   func(t *testing.T, b *box)
	out  bool // it is about what the container sends
}

// ifb is where what the container sends goes through.
func (b *box) ifb(t *testing.T) string {
	t.Helper()
	ours, err := b.h.ours()
	assert.NilError(t, err)
	veth := b.veth(t)
	if ifb := ours.ifbOf(veth); ifb != "" {
		return ifb
	}
	t.Fatalf("%s: nothing forwards what %s gets: %+v", b.name, veth, ours.chains)
	return ""
}

func (b *box) each(t *testing.T, tables []string, args ...string) {
	t.Helper()
	for _, table := range tables {
		b.h.Must(t, append(append([]string{"nft"}, args...), strings.Fields(table)...)...)
	}
}

func setAlias(t *testing.T, b *box) {
	t.Helper()
	b.h.Must(t, "ip", "link", "set", b.veth(t), "alias", "web01")
}

func dropAltNames(t *testing.T, b *box) {
	t.Helper()
	l, err := b.end()
	assert.NilError(t, err)
	for _, alt := range l.AltNames {
		b.h.Must(t, "ip", "link", "property", "del", "dev", l.Name, "altname", alt)
	}
}

func rename(t *testing.T, b *box) {
	t.Helper()
	b.h.Must(t, "ip", "link", "set", b.veth(t), "name", fmt.Sprintf("web%d", b.peer))
}

// otherRate takes the place of our qdisc with its handle.
func otherRate(t *testing.T, b *box) {
	t.Helper()
	veth, handle := b.veth(t), "d0c:"
	if strings.Contains(b.h.Must(t, "tc", "qdisc", "show", "dev", veth, "root"), "d0d:") {
		handle = "d0d:"
	}
	b.h.Must(t, "tc", "qdisc", "replace", "dev", veth, "root", "handle", handle, "tbf", "rate", "900mbit", "burst", "1mb", "limit", "10mb")
}

func deleteChain(t *testing.T, b *box) {
	t.Helper()
	ours, err := b.h.ours()
	assert.NilError(t, err)
	veth, n := b.veth(t), 0
	for _, c := range ours.chains {
		if slices.Contains(c.devs, veth) {
			b.h.Must(t, "nft", "delete", "chain", c.Family, c.Table, c.Name)
			n++
		}
	}
	assert.Assert(t, n > 0, "%s has no chain: %+v", veth, ours.chains)
}

func flushMaps(t *testing.T, b *box) { flushSets(t, b, true) }

// flushSets is for maps or sets.
func flushSets(t *testing.T, b *box, maps bool) {
	t.Helper()
	ours, err := b.h.ours()
	assert.NilError(t, err)
	n := 0
	for _, s := range ours.sets {
		if s.isMap == maps {
			b.h.Must(t, "nft", "flush", map[bool]string{true: "map", false: "set"}[maps], s.Family, s.Table, s.Name)
			n++
		}
	}
	assert.Assert(t, n > 0, "nothing to flush: %+v", ours.sets)
}

func raiseMTU(t *testing.T, b *box) {
	t.Helper()
	b.h.Must(t, "ip", "link", "set", b.veth(t), "mtu", "9000")
}

var hands = []hand{
	{"alias", setAlias, true},
	{"alias and other names", func(t *testing.T, b *box) { setAlias(t, b); dropAltNames(t, b) }, true},
	{"name", rename, true},
	{"root qdisc deleted", func(t *testing.T, b *box) { b.h.Must(t, "tc", "qdisc", "del", "dev", b.veth(t), "root") }, false},
	{"another rate", otherRate, false},
	{"rule set flushed", func(t *testing.T, b *box) { b.h.Must(t, "nft", "flush", "ruleset") }, true},
	{"tables deleted", func(t *testing.T, b *box) { b.each(t, b.h.mustTables(t), "delete", "table") }, true},
	{"rules flushed", func(t *testing.T, b *box) { b.each(t, b.h.mustTables(t), "flush", "table") }, true},
	{"chain deleted", deleteChain, true},
	{"maps flushed", flushMaps, true},
	{"sets flushed", func(t *testing.T, b *box) { flushSets(t, b, false) }, true},
	{"mangle flushed", func(t *testing.T, b *box) {
		b.h.Must(t, "iptables", "-t", "mangle", "-F")
		b.h.Must(t, "ip6tables", "-t", "mangle", "-F")
	}, true},
	{"ifb deleted", func(t *testing.T, b *box) { b.h.Must(t, "ip", "link", "del", b.ifb(t)) }, true},
	{"ifb down", func(t *testing.T, b *box) { b.h.Must(t, "ip", "link", "set", b.ifb(t), "down") }, true},
	{"qdisc of the ifb deleted", func(t *testing.T, b *box) { b.h.Must(t, "tc", "qdisc", "del", "dev", b.ifb(t), "root") }, true},
	{"MTU", raiseMTU, false},
}

func TestNetLimitsHoldAgainstEachHand(t *testing.T) {
	place.OnHost(t)
	h, d := setupHands(t)
	clean := h.allLeftovers(t)
	for _, hand := range hands {
		t.Run(hand.name, func(t *testing.T) {
			defer d.RemoveAll(t)
			if strings.Contains(hand.name, "flushed") {
				defer d.Restart(t) // what was its own comes back
			}
			b := runBox(t, h, d, "c1", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16))
			assert.NilError(t, b.holds())
			since := time.Now()
			stop := b.pinging(t)
			hand.do(t, b)
			begin := time.Now()
			b.wantHeld(t, hand.name)
			b.wantReach(t, hand.name)
			down := time.Since(begin)
			sent, lost := stop()
			t.Logf("%d of %d pings lost, in force after %v at most", lost, sent, down.Round(time.Millisecond))
			assert.Assert(t, lost <= int(down/(100*time.Millisecond))+2, "%d of %d pings lost", lost, sent)
			if hand.name == "MTU" {
				// Frames that are larger than the bucket was, each way.
				b.h.Must(t, "ip", "link", "set", "docker0", "mtu", "9000")
				b.must(t, "ip", "link", "set", "eth0", "mtu", "9000")
				b.must(t, "busybox", "ping", "-c3", "-i", "0.2", "-s8000", "-W2", "172.17.0.1")
				b.must(t, "ip", "link", "set", "eth0", "mtu", "1500")
			}
			if hand.out {
				h.wantRate(t, b.addr, true, 8)
			} else {
				h.wantRate(t, b.addr, false, 16)
			}
			assert.Equal(t, b.class(t), "10:1")
			b.wantNoForgery(t)
			wantPaired(t, d, b.name, since)
			d.Must(t, "update", rateFlag(t, "egress", 24), "--net-ingress-rate=-1", "--net-classid=10:3", b.name)
			assert.NilError(t, b.holds())
			assert.Equal(t, b.class(t), "10:3")
		})
	}
	d.RemoveAll(t)
	assert.Equal(t, h.allLeftovers(t), clean)
}

// A script that names interfaces runs while dockerd is not there.
func TestNetTrafficGoesOnWhenAnAliasWasSetWithoutDockerd(t *testing.T) {
	place.OnHost(t)
	h, d := setupHands(t)
	clean := h.allLeftovers(t)
	for _, tc := range []struct {
		name   string
		killed bool
		do     func(t *testing.T, b *box)
	}{
		{"alias, dockerd killed", true, setAlias},
		{"alias, dockerd stopped", false, setAlias},
		{"alias and other names, dockerd killed", true, func(t *testing.T, b *box) { setAlias(t, b); dropAltNames(t, b) }},
		{"alias, other names and name, dockerd killed", true, func(t *testing.T, b *box) { setAlias(t, b); dropAltNames(t, b); rename(t, b) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer d.RemoveAll(t)
			b := runBox(t, h, d, "c1", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16))
			stop := b.pinging(t)
			if tc.killed {
				d.Kill(t)
			} else {
				d.Stop(t)
			}
			tc.do(t, b)
			d.StartAgain(t)
			b.wantReach(t, "after the start of dockerd")
			sent, lost := stop()
			assert.Assert(t, lost <= 1, "%d of %d pings lost", lost, sent)
			b.wantHeld(t, "after the start of dockerd")
			h.wantRate(t, b.addr, true, 8)
			h.wantRate(t, b.addr, false, 16)
			assert.Equal(t, b.class(t), "10:1")

			d.Must(t, "update", "--net-egress-rate=-1", b.name)
			h.wantFree(t, b.addr, true)
			h.wantRate(t, b.addr, false, 16)
			assert.NilError(t, b.holds())
			d.Must(t, "update", rateFlag(t, "egress", 24), b.name)
			h.wantRate(t, b.addr, true, 24)
			d.Must(t, "rm", "-f", b.name)
			assert.Equal(t, h.allLeftovers(t), clean)
		})
	}
}

// addHTB makes an administrator's root qdisc, and returns what stays of it.
func addHTB(t *testing.T, b *box) (htb string) {
	t.Helper()
	veth := b.veth(t)
	b.h.Must(t, "tc", "qdisc", "replace", "dev", veth, "root", "handle", "1:", "htb", "default", "1")
	b.h.Must(t, "tc", "class", "add", "dev", veth, "parent", "1:", "classid", "1:1", "htb", "rate", "3mbit")
	return b.htb(t)
}

func (b *box) htb(t *testing.T) string {
	t.Helper()
	veth := b.veth(t)
	return b.h.Must(t, "tc", "qdisc", "show", "dev", veth, "root") + b.h.Must(t, "tc", "class", "show", "dev", veth)
}

func TestNetRootQdiscOfAnAdministratorStays(t *testing.T) {
	place.OnHost(t)
	h, d := setupHands(t)
	clean := h.allLeftovers(t)

	t.Run("before", func(t *testing.T) {
		defer d.RemoveAll(t)
		b := runBox(t, h, d, "c1")
		htb := addHTB(t, b)
		r := d.Docker(t, "update", rateFlag(t, "ingress", 50), b.name)
		assert.Check(t, r.Code != 0, "a rate was taken in the place of another qdisc: %s", b.htb(t))
		wantWords(t, r.Stderr, "--net-ingress-rate", "htb 1:", b.veth(t))
		assert.Equal(t, b.htb(t), htb)
		assert.NilError(t, b.holds())
		// What it sends is another matter.
		d.Must(t, "update", rateFlag(t, "egress", 8), "--net-classid=10:1", b.name)
		assert.NilError(t, b.holds())
		h.wantRate(t, b.addr, true, 8)
		assert.Equal(t, b.htb(t), htb)
		d.Must(t, "update", "--net-egress-rate=-1", "--net-ingress-rate=-1", b.name)
		assert.Equal(t, b.htb(t), htb)
		d.Kill(t)
		d.StartAgain(t)
		assert.Equal(t, b.htb(t), htb)
		h.Must(t, "tc", "qdisc", "del", "dev", b.veth(t), "root")
		d.Must(t, "update", rateFlag(t, "ingress", 16), b.name)
		h.wantRate(t, b.addr, false, 16)
	})

	t.Run("after", func(t *testing.T) {
		defer d.RemoveAll(t)
		since := time.Now()
		b := runBox(t, h, d, "c1", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16))
		htb := addHTB(t, b)
		b.wantLost(t, "htb in place of the rate", "NetIngressRate")
		wantWords(t, strings.Join(notInForce(t, d, b.name), "\n"), "NetIngressRate on network bridge: ", "htb 1:")
		within(t, noticed(), "event limit_lost", func() error {
			events := limitEvents(t, d, b.name, since)
			if len(events) != 1 || !strings.HasPrefix(events[0], "limit_lost NetIngressRate bridge ") || !strings.Contains(events[0], "htb 1:") {
				return fmt.Errorf("%q", events)
			}
			return nil
		})
		// Nobody tries again and again what would take its place.
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			assert.Equal(t, b.htb(t), htb)
		}
		// An update of something else is taken, one of this is refused.
		d.Must(t, "update", "--pids-limit=100", b.name)
		d.Must(t, "update", rateFlag(t, "egress", 24), b.name)
		r := d.Docker(t, "update", rateFlag(t, "ingress", 24), b.name)
		assert.Check(t, r.Code != 0)
		wantWords(t, r.Stderr, "htb 1:")
		d.Kill(t)
		d.StartAgain(t)
		b.wantLost(t, "htb over a start of dockerd", "NetIngressRate")
		assert.Equal(t, b.htb(t), htb)

		since = time.Now()
		h.Must(t, "tc", "qdisc", "del", "dev", b.veth(t), "root")
		b.wantHeld(t, "without the htb")
		h.wantRate(t, b.addr, false, 16)
		within(t, noticed(), "event limit_restored", func() error {
			events := limitEvents(t, d, b.name, since)
			if len(events) != 1 || events[0] != "limit_restored NetIngressRate bridge" {
				return fmt.Errorf("%q", events)
			}
			return nil
		})
	})

	t.Run("taken off", func(t *testing.T) {
		defer d.RemoveAll(t)
		b := runBox(t, h, d, "c1", rateFlag(t, "ingress", 16))
		htb := addHTB(t, b)
		b.wantLost(t, "htb in place of the rate", "NetIngressRate")
		d.Must(t, "update", "--net-ingress-rate=-1", b.name)
		assert.NilError(t, b.holds())
		assert.Equal(t, b.htb(t), htb)
		assert.NilError(t, b.reaches())
	})
	d.RemoveAll(t)
	assert.Equal(t, h.allLeftovers(t), clean)
}

func TestNetIngressFiltersOfAnAdministratorStay(t *testing.T) {
	place.OnHost(t)
	h, d := setupHands(t)
	clean := h.allLeftovers(t)
	for _, kind := range []string{"ingress", "clsact"} {
		add := func(t *testing.T, b *box) {
			t.Helper()
			h.Must(t, "tc", "qdisc", "add", "dev", b.veth(t), kind)
			for _, hook := range []string{"ingress", "egress"}[:map[string]int{"ingress": 1, "clsact": 2}[kind]] {
				h.Must(t, "tc", "filter", "add", "dev", b.veth(t), hook, "protocol", "all", "prio", "50", "u32", "match", "u32", "0", "0", "flowid", "1:1")
			}
		}
		show := func(t *testing.T, b *box) string {
			t.Helper()
			var s strings.Builder
			for line := range strings.Lines(h.Must(t, "tc", "qdisc", "show", "dev", b.veth(t))) {
				if strings.Contains(line, kind) {
					s.WriteString(line)
				}
			}
			for _, hook := range []string{"ingress", "egress"}[:map[string]int{"ingress": 1, "clsact": 2}[kind]] {
				s.WriteString(h.Must(t, "tc", "filter", "show", "dev", b.veth(t), hook))
			}
			return s.String()
		}
		for _, when := range []string{"before", "after"} {
			t.Run(kind+" "+when, func(t *testing.T) {
				defer d.RemoveAll(t)
				b := runBox(t, h, d, "c1")
				if when == "before" {
					add(t, b)
				}
				d.Must(t, "update", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16), b.name)
				if when == "after" {
					add(t, b)
				}
				filters := show(t, b)
				assert.Assert(t, strings.Contains(filters, "u32"), filters)
				b.wantHeld(t, "beside "+kind)
				h.wantRate(t, b.addr, true, 8)
				h.wantRate(t, b.addr, false, 16)
				d.Must(t, "update", rateFlag(t, "egress", 24), b.name)
				assert.Equal(t, show(t, b), filters)
				assert.NilError(t, b.holds())
				h.wantRate(t, b.addr, true, 24)
				d.Kill(t)
				d.StartAgain(t)
				b.wantHeld(t, "after a start of dockerd")
				assert.Equal(t, show(t, b), filters)
				d.Must(t, "update", "--net-egress-rate=-1", "--net-ingress-rate=-1", b.name)
				assert.Equal(t, show(t, b), filters)
				assert.NilError(t, b.holds())
				h.wantFree(t, b.addr, true)
				// Another one's hook goes without a sign.
				d.Must(t, "update", rateFlag(t, "egress", 8), b.name)
				h.Must(t, "tc", "qdisc", "del", "dev", b.veth(t), kind)
				b.wantHeld(t, "without "+kind)
				h.wantRate(t, b.addr, true, 8)
			})
		}
	}
	d.RemoveAll(t)
	assert.Equal(t, h.allLeftovers(t), clean)
}

func TestNetRulesOfAnAdministratorStay(t *testing.T) {
	place.OnHost(t)
	h, d := setupHands(t)
	d.Must(t, "network", "create", "--subnet=172.30.9.0/24", "n")
	clean := h.allLeftovers(t)
	h.Must(t, "nft", `table inet mine { map own { type ipv4_addr : mark; elements = { 192.0.2.9 : 5 }; }; chain post { type filter hook postrouting priority mangle; policy accept; meta mark set ip daddr map @own; }; }`)
	h.Must(t, "nft", `table netdev mine { chain in { type filter hook ingress device "`+uplink+`" priority 0; policy accept; ip saddr 192.0.2.9 drop; }; }`)
	for _, tables := range []string{"iptables", "ip6tables"} {
		h.Must(t, tables, "-t", "mangle", "-A", "POSTROUTING", "-m", "comment", "--comment", "mine", "-j", "MARK", "--set-mark", "7")
	}
	foreign := func() string {
		t.Helper()
		s := h.Must(t, "nft", "list", "table", "inet", "mine") + h.Must(t, "nft", "list", "table", "netdev", "mine")
		for _, tables := range []string{"iptables", "ip6tables"} {
			for line := range strings.Lines(h.Must(t, tables, "-t", "mangle", "-S", "POSTROUTING")) {
				if strings.Contains(line, "mine") {
					s += line
				}
			}
		}
		return s
	}
	before := foreign()
	assert.Equal(t, strings.Count(before, "-j MARK"), 2, before)
	for range 2 {
		b := runBox(t, h, d, "c1", "--network=n", "--ip=172.30.9.9", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16))
		assert.NilError(t, b.holds())
		assert.Equal(t, b.class(t), "10:1")
		d.Must(t, "update", rateFlag(t, "egress", 16), "--net-ingress-rate=-1", "--net-classid=10:3", "c1")
		assert.Equal(t, foreign(), before)
		d.Kill(t)
		d.StartAgain(t)
		assert.Equal(t, foreign(), before)
		b.wantHeld(t, "after a start of dockerd")
		assert.Equal(t, b.class(t), "10:3")

		// In the middle of ours.
		h.mustTables(t)
		ours, err := h.ours()
		assert.NilError(t, err)
		for _, c := range ours.chains {
			match := "ip daddr 192.0.2.9"
			if c.Family != "inet" {
				match = "ether type ip " + match
			}
			h.Must(t, append([]string{"nft", "insert", "rule", c.Family, c.Table, c.Name}, strings.Fields(match+" accept")...)...)
		}
		b.wantHeld(t, "with another one's rules in our chains")
		d.Must(t, "update", "--net-classid=10:1", "c1")
		assert.Equal(t, b.class(t), "10:1")
		// Whoever gets the address does not get the class.
		d.Must(t, "rm", "-f", "c1")
		c2 := runBox(t, h, d, "c2", "--network=n", "--ip=172.30.9.9")
		assert.Equal(t, c2.class(t), classOther)
		d.Kill(t)
		d.StartAgain(t)
		assert.Equal(t, c2.class(t), classOther)
		d.Must(t, "rm", "-f", "c2")
		assert.Equal(t, foreign(), before)
		// What has another one's rules stays, and holds nothing else.
		for _, table := range h.tables(t) {
			text := h.Must(t, append([]string{"nft", "list", "table"}, strings.Fields(table)...)...)
			assert.Check(t, !strings.Contains(text, "elements") && !strings.Contains(text, "172.30.9.9"), text)
			h.Must(t, append([]string{"nft", "delete", "table"}, strings.Fields(table)...)...)
		}
	}
	h.Must(t, "nft", "delete", "table", "inet", "mine")
	h.Must(t, "nft", "delete", "table", "netdev", "mine")
	for _, tables := range []string{"iptables", "ip6tables"} {
		h.Must(t, tables, "-t", "mangle", "-D", "POSTROUTING", "-m", "comment", "--comment", "mine", "-j", "MARK", "--set-mark", "7")
	}
	assert.Equal(t, h.allLeftovers(t), clean)
}

func TestNetLimitsOfTwoDockerds(t *testing.T) {
	place.OnHost(t)
	h, d1 := setupHands(t)
	h.Must(t, "ip", "link", "add", "br2", "type", "bridge")
	h.Must(t, "ip", "addr", "add", "172.31.0.1/16", "dev", "br2")
	h.Must(t, "ip", "link", "set", "br2", "up")
	d2 := daemon.NewIn(t, h.NS, "--live-restore", "--bridge=br2")
	// Each dockerd writes the filter rules anew without the other's bridge.
	h.Must(t, "iptables", "-I", "DOCKER-USER", "-j", "ACCEPT")
	flags := []string{"--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16)}
	b1 := runBox(t, h, d1, "c1", flags...)
	b2 := runBox(t, h, d2, "c2", flags...)
	both := []*box{b1, b2}
	assert.Assert(t, b1.addr != b2.addr)
	inForce := func(what string) {
		t.Helper()
		for _, b := range both {
			b.wantHeld(t, what)
			assert.Equal(t, b.class(t), "10:1", "%s, %s", what, b.name)
		}
	}
	inForce("both")
	for _, b := range both {
		h.wantRate(t, b.addr, true, 8)
		h.wantRate(t, b.addr, false, 16)
	}
	for i, b := range both {
		other := both[1-i]
		state := func() string {
			t.Helper()
			e, err := other.kernel()
			assert.NilError(t, err)
			return e.String() + b.h.Must(t, "tc", "qdisc", "show", "dev", other.veth(t))
		}
		before := state()
		stop := other.pinging(t)
		b.d.Restart(t)
		assert.Equal(t, state(), before)
		b.d.Kill(t)
		b.d.StartAgain(t)
		assert.Equal(t, state(), before)
		sent, lost := stop()
		assert.Assert(t, lost <= 1, "%d of %d pings lost", lost, sent)
		inForce("after a start of the dockerd of " + b.name)

		// None of its own is left, with and without a start in between.
		for range 2 {
			b.d.Must(t, "rm", "-f", b.name)
			assert.Equal(t, state(), before)
			b.d.Restart(t, append(slices.Clone(netArgs), map[bool]string{true: "--bridge=br2", false: "--bridge="}[b.d == d2], "--live-restore=false")...)
			assert.Equal(t, state(), before)
			assert.NilError(t, other.holds())
			b.d.Restart(t)
			assert.Equal(t, other.class(t), "10:1")
			both[i] = runBox(t, h, b.d, b.name, flags...)
			b = both[i]
			inForce("with a new " + b.name)
		}
		h.wantRate(t, other.addr, true, 8)
	}
	// What one puts back is its own.
	h.Must(t, "nft", "flush", "ruleset")
	inForce("after a flush")
	tables := h.mustTables(t)
	owners := map[string]bool{}
	for _, table := range tables {
		owners[strings.Fields(table)[1]] = true
	}
	assert.Equal(t, len(owners), 2, "%q", tables)
}

// An administrator saves the rule set and loads it, as services do at boot.
func TestNetRuleSetCanBeSavedAndLoaded(t *testing.T) {
	place.OnHost(t)
	h, d := setupHands(t)
	clean := h.allLeftovers(t)
	b := runBox(t, h, d, "c1", "-p", "8080:9000", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16))
	b2 := runBox(t, h, d, "c2", "--net-prio="+uplink+":1048579", rateFlag(t, "egress", 8))
	for range 5 { // with other identifiers
		var file strings.Builder
		for _, table := range h.mustTables(t) {
			f := strings.Fields(table)
			fmt.Fprintf(&file, "delete table %s\n%s", table, h.Must(t, "nft", "list", "table", f[0], f[1]))
		}
		path := filepath.Join(t.TempDir(), "rules")
		assert.NilError(t, os.WriteFile(path, []byte(file.String()), 0o600))
		if out, err := h.Run("nft", "-f", path); err != nil {
			t.Fatalf("%v: %s\n%s", err, out, &file)
		}
		for _, b := range []*box{b, b2} {
			b.wantHeld(t, "loaded")
		}
		assert.Equal(t, b.class(t), "10:1")
		assert.Equal(t, b2.class(t), "10:3")
		h.wantRate(t, b.addr, true, 8)
		d.Must(t, "restart", "-t0", "c1")
		b = findBox(t, h, d, "c1")
	}
	d.RemoveAll(t)
	assert.Equal(t, h.allLeftovers(t), clean)
}

// traces are of what earlier builds limited with.
func (b *box) traces(t *testing.T) string {
	t.Helper()
	var s strings.Builder
	for _, cmd := range []string{"iptables -t mangle -S", "ip6tables -t mangle -S"} {
		for line := range strings.Lines(b.h.Must(t, strings.Fields(cmd)...)) {
			if strings.Contains(line, "NETCLASS") {
				s.WriteString(line)
			}
		}
	}
	for line := range strings.Lines(b.h.Must(t, "tc", "qdisc", "show", "dev", b.veth(t))) {
		if strings.Contains(line, "ingress") || strings.Contains(line, "clsact") {
			s.WriteString(line)
		}
	}
	return s.String()
}

func TestNetTakeoverReplacesTheMeansOfThePreviousBuild(t *testing.T) {
	place.OnHost(t)
	h, d, takeOver := setupPrevious(t)
	h.Must(t, "iptables", "-I", "DOCKER-USER", "-j", "ACCEPT") // see setupHands
	clean := h.allLeftovers(t)
	limits := []string{"--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16)}
	boxes := []*box{runBox(t, h, d, "c1", limits...), runBox(t, h, d, "c2", "--net-prio="+uplink+":"+strconv.Itoa(0x100003), rateFlag(t, "egress", 8)), runBox(t, h, d, "c3")}
	assert.Assert(t, strings.Contains(boxes[0].traces(t), "NETCLASS") && strings.Contains(boxes[0].traces(t), "ingress"), "the previous build limits by other means: %q", boxes[0].traces(t))
	tbf := h.Must(t, "tc", "qdisc", "show", "dev", boxes[0].veth(t), "root")
	d.Must(t, append(append([]string{"update"}, limits...), "c3")...)
	stop := boxes[0].pinging(t)
	stop2 := boxes[1].pinging(t)
	d.Kill(t)
	kill(t, boxes[2].pid)
	d.Use(t, nil)
	d.StartAgain(t)
	for i, stop := range []func() (int, int){stop, stop2} {
		boxes[i].wantHeld(t, "after the takeover")
		assert.Equal(t, boxes[i].traces(t), "")
		sent, lost := stop()
		t.Logf("%d of %d pings lost", lost, sent)
		assert.Assert(t, lost <= 1, "%d of %d pings lost", lost, sent)
	}
	// The same queue goes on.
	assert.Equal(t, h.Must(t, "tc", "qdisc", "show", "dev", boxes[0].veth(t), "root"), tbf)
	h.wantRate(t, boxes[0].addr, true, 8)
	h.wantRate(t, boxes[0].addr, false, 16)
	h.wantRate(t, boxes[1].addr, true, 8)
	assert.Equal(t, boxes[0].class(t), "10:1")
	assert.Equal(t, boxes[1].class(t), "10:3")
	d.Must(t, "update", "--net-egress-rate=-1", "--net-classid=10:3", "c1")
	assert.NilError(t, boxes[0].holds())
	assert.Equal(t, boxes[0].class(t), "10:3")
	takeOver() // of itself
	boxes[0].wantHeld(t, "after another start")
	d.Must(t, "rm", "-f", "c1", "c2", "c3")
	assert.Equal(t, h.allLeftovers(t), clean)
}

func TestNetLimitEndpointsAreWhatTheKernelHas(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	d.Must(t, "network", "create", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", "n1")
	u := unit(t)
	d.Must(t, "create", "--name=c1", rateFlag(t, "egress", 8), "busybox", "sleep", "inf")
	endpoints := func() []netEndpoint {
		t.Helper()
		c, err := (&box{d: d, name: "c1"}).inspect()
		assert.NilError(t, err)
		return c.NetLimitEndpoints
	}
	assert.Equal(t, len(endpoints()), 0) // it does not run
	d.Must(t, "start", "c1")
	b := findBox(t, h, d, "c1")
	veth := b.veth(t)
	want := func(egress, ingress int64, class uint32, prios ...netPriority) {
		t.Helper()
		kernel, err := b.kernel()
		assert.NilError(t, err)
		e := netEndpoint{"bridge", veth, egress * u, ingress * u, class, prios}
		assert.Equal(t, kernel.String(), e.String())
		got := endpoints()
		assert.Equal(t, len(got), 1, "%v", got)
		assert.Equal(t, got[0].String(), e.String())
	}
	want(8, 0, 0)
	d.Must(t, "update", rateFlag(t, "ingress", 16), "--net-classid=10:1", "c1")
	want(8, 16, 0x100001)
	d.Must(t, "update", rateFlag(t, "egress", 24), "--net-classid=0", "--net-prio="+uplink+":1048579", "c1")
	want(24, 16, 0, netPriority{uplink, 1048579})
	d.Kill(t)
	d.StartAgain(t)
	want(24, 16, 0, netPriority{uplink, 1048579})

	// One for each network, and the CLI shows it.
	d.Must(t, "network", "connect", "n1", "c1")
	got := endpoints()
	assert.Equal(t, len(got), 2, "%v", got)
	slices.SortFunc(got, func(a, b netEndpoint) int { return strings.Compare(a.Network, b.Network) })
	assert.Assert(t, got[1].Interface != veth && strings.Contains(h.Must(t, "tc", "qdisc", "show", "dev", got[1].Interface), "tbf"), "%v", got)
	assert.Equal(t, got[1].String(), netEndpoint{"n1", got[1].Interface, 24 * u, 16 * u, 0, []netPriority{{uplink, 1048579}}}.String())
	text := d.Must(t, "inspect", "-f", "{{json .NetLimitEndpoints}}", "c1")
	wantWords(t, text, `"n1"`, `"bridge"`, veth, fmt.Sprint(24*u), "1048579")
	d.Must(t, "network", "disconnect", "n1", "c1")

	d.Must(t, "update", "--net-egress-rate=-1", "--net-prio=", "c1")
	want(0, 16, 0)
	d.Must(t, "update", "--net-ingress-rate=-1", "c1")
	for _, e := range endpoints() { // none, or one without limits
		assert.Equal(t, e.String(), netEndpoint{Network: "bridge", Interface: veth}.String())
	}
	d.Must(t, "stop", "-t0", "c1")
	assert.Equal(t, len(endpoints()), 0)
}

// takeTable makes another program the owner of a table of that name, which nobody
// else can change. It ends, and the table with it, when release is called.
func (h netHost) takeTable(t *testing.T, table string) (release func()) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("nft", "-i")
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	assert.NilError(t, err)
	assert.NilError(t, h.Do(cmd.Start))
	released := false
	release = func() {
		if !released {
			released = true
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(release)
	_, err = io.WriteString(in, fmt.Sprintf("add table %[1]s; delete table %[1]s; add table %[1]s { flags owner; }\n", table))
	assert.NilError(t, err)
	within(t, 10*time.Second, "a table with an owner", func() error {
		text, err := h.Run(append([]string{"nft", "list", "table"}, strings.Fields(table)...)...)
		if err == nil && !strings.Contains(text, "flags owner") {
			err = errors.New(text)
		}
		return err
	})
	return release
}

// For a moment, the limits of a container that its policy starts again cannot be.
func TestNetStartByPolicyIsTriedAgain(t *testing.T) {
	place.OnHost(t)
	h, d := setupHands(t)
	clean := h.allLeftovers(t)
	type state struct {
		State struct {
			Running bool
			Pid     int
			Error   string
		}
	}
	look := func() (c state) {
		t.Helper()
		r := d.API(t, http.MethodGet, "/containers/c1/json", "")
		assert.NilError(t, json.Unmarshal(r.Body, &c))
		return c
	}
	for _, tc := range []struct {
		name, family, flag string
		start              bool // of dockerd, else of the container's process
	}{
		{"class, the process ends", "inet", "--net-classid=10:1", false},
		{"rate, the process ends", "netdev", rateFlag(t, "egress", 8), false},
		{"class, dockerd starts", "inet", "--net-classid=10:1", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer d.RemoveAll(t)
			b := runBox(t, h, d, "c1", "--restart=always", tc.flag)
			assert.NilError(t, b.holds())
			tables := h.mustTables(t)
			i := slices.IndexFunc(tables, func(s string) bool { return strings.HasPrefix(s, tc.family+" ") })
			assert.Assert(t, i >= 0, "%q", tables)
			if tc.start {
				d.Kill(t)
			}
			release := h.takeTable(t, tables[i])
			field := strings.NewReplacer("--net-classid", "NetClassID", "--net-egress-rate", "NetEgressRate").Replace(strings.Split(tc.flag, "=")[0])
			if !tc.start {
				b.wantLost(t, "the table is another one's", field)
			}
			kill(t, b.pid)
			if tc.start {
				d.StartAgain(t)
			}
			down := func() error {
				if c := look(); c.State.Running || c.State.Error == "" {
					return fmt.Errorf("%+v", c)
				}
				return nil
			}
			within(t, 10*time.Second, "down", down)
			wantWords(t, look().State.Error, strings.Split(tc.flag, "=")[0])
			// It is not started without its limit.
			for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				assert.Assert(t, !look().State.Running, "it runs without its limit")
			}
			release()
			within(t, 30*time.Second, "up again", func() error {
				if c := look(); !c.State.Running || c.State.Pid == b.pid || c.State.Error != "" {
					return fmt.Errorf("%+v", c)
				}
				return nil
			})
			b = findBox(t, h, d, "c1")
			b.wantHeld(t, "up again")
			if tc.family == "inet" {
				assert.Equal(t, b.class(t), "10:1")
			} else {
				h.wantRate(t, b.addr, true, 8)
			}

			// Who stops it ends the attempts, and so does who removes it.
			release = h.takeTable(t, tables[i])
			kill(t, b.pid)
			within(t, 10*time.Second, "down", down)
			d.Must(t, "stop", "-t0", "c1")
			release()
			for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				assert.Assert(t, !look().State.Running, "it was started although it was stopped")
			}
			release = h.takeTable(t, tables[i])
			r := d.Docker(t, "start", "c1")
			assert.Check(t, r.Code != 0, "a client's start was taken")
			wantWords(t, r.Stderr, strings.Split(tc.flag, "=")[0])
			d.Must(t, "rm", "-f", "c1")
			release()
			assert.Equal(t, h.allLeftovers(t), clean)
		})
	}
}

// failing makes a program fail for all who are started later while the file is
// there, dockerd among them. Call it before that starts.
func failing(t *testing.T, programs ...string) (flag string) {
	t.Helper()
	dir := t.TempDir()
	flag = filepath.Join(dir, "fail")
	for _, name := range programs {
		real, err := exec.LookPath(name)
		assert.NilError(t, err)
		script := fmt.Sprintf("#!/bin/sh\n[ -e %s ] && { echo 'resource temporarily unavailable' >&2; exit 4; }\nexec %s \"$@\"\n", flag, real)
		assert.NilError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700))
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return flag
}

func TestNetFaultsOfOtherHands(t *testing.T) {
	place.OnHost(t)
	n, seed := killsOf(t, "NET_KILLS")
	if os.Getenv("NET_KILLS") == "" {
		n = 15
	}
	t.Logf("%d faults, SEED=%d", n, seed)
	random := rand.New(rand.NewPCG(seed, seed))
	require.NetRate(t)
	flag := failing(t, "iptables", "ip6tables", "iptables-restore", "ip6tables-restore", "nft")
	h, d := setupHands(t)
	clean := h.allLeftovers(t)
	limits := map[string][]string{
		"c0": {"--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16)},
		"c1": {rateFlag(t, "egress", 24)},
		"c2": {"--net-prio=" + uplink + ":1048579", rateFlag(t, "ingress", 16)},
	}
	boxes := []*box{}
	for _, name := range []string{"c0", "c1", "c2"} {
		boxes = append(boxes, runBox(t, h, d, name, limits[name]...))
	}
	has := func(b *box, hand hand) bool {
		// The others take away what the container does not have.
		switch hand.name {
		case "root qdisc deleted", "another rate":
			rates, err := h.rates()
			assert.NilError(t, err)
			return rates[b.veth(t)] != 0
		case "sets flushed":
			return b.name != "c1" // it has no class
		case "chain deleted", "ifb deleted", "ifb down", "qdisc of the ifb deleted":
			c, err := b.inspect()
			assert.NilError(t, err)
			return c.HostConfig.NetEgressRate > 0
		}
		return true
	}
	for i := range n {
		b := boxes[random.IntN(len(boxes))]
		which := hands[random.IntN(len(hands))]
		for !has(b, which) {
			which = hands[random.IntN(len(hands))]
		}
		way := random.IntN(8)
		what := fmt.Sprintf("fault %d: %s of %s, ", i, which.name, b.name)
		pause := func() { time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond)))) }
		all := func(what string, ready func(b *box) error) {
			t.Helper()
			within(t, noticed(), what, func() error {
				var errs []error
				for _, b := range boxes {
					errs = append(errs, ready(b))
				}
				return errors.Join(errs...)
			})
		}
		agree := func(b *box) error { _, err := b.agrees(); return err }
		switch way {
		case 0:
			what += "while dockerd is dead"
			d.Kill(t)
			which.do(t, b)
			d.StartAgain(t)
		case 1:
			what += "and dockerd dies"
			which.do(t, b)
			pause()
			d.Kill(t)
			d.StartAgain(t)
		case 2:
			what += "while iptables fails"
			which.do(t, b)
			assert.NilError(t, os.WriteFile(flag, nil, 0o600))
			pause()
			assert.NilError(t, os.Remove(flag))
		case 3:
			what += "while a table is another one's"
			which.do(t, b)
			var release func()
			if tables := h.tables(t); len(tables) > 0 {
				release = h.takeTable(t, tables[random.IntN(len(tables))])
				what += " and while it was"
				all(what, agree)
				release()
			}
		case 4:
			what += "and an administrator's root qdisc"
			which.do(t, b)
			htb := addHTB(t, b)
			all(what, agree)
			assert.Equal(t, b.htb(t), htb, what)
			h.Must(t, "tc", "qdisc", "del", "dev", b.veth(t), "root")
		case 5:
			what += "in an update"
			done := make(chan daemon.Response, 1)
			go func() {
				r, err := d.TryAPI(http.MethodPost, "/containers/"+b.name+"/update", fmt.Sprintf(`{"NetEgressRate":%d}`, (4+random.Int64N(40))*unit(t)))
				if err != nil {
					r.Body = []byte(err.Error())
				}
				done <- r
			}()
			pause()
			if has(b, which) { // it may have got one
				which.do(t, b)
			}
			r := <-done
			what += fmt.Sprintf(" (%d %s)", r.Status, r.Message())
		case 6:
			what += "and the container starts again"
			which.do(t, b)
			r := d.API(t, http.MethodPost, "/containers/"+b.name+"/restart?t=0", "")
			assert.Equal(t, r.Status, http.StatusNoContent, "%s: %s", what, r.Message())
			j := slices.Index(boxes, b)
			boxes[j] = findBox(t, h, d, b.name)
		default:
			what += "and another one"
			which.do(t, b)
			pause()
			boxes[random.IntN(len(boxes))].again(t, random)
		}
		all(what+": traffic", (*box).reachesHost)
		all(what, (*box).holds)
		if t.Failed() {
			t.FailNow()
		}
	}
	// What of its own the flushes took comes back.
	h.Must(t, "iptables", "-t", "raw", "-F")
	d.Restart(t)
	d.Must(t, "update", rateFlag(t, "egress", 8), "c0")
	h.wantRate(t, boxes[0].addr, true, 8)
	h.wantRate(t, boxes[0].addr, false, 16)
	assert.Equal(t, boxes[0].class(t), "10:1")
	assert.Equal(t, boxes[2].class(t), "10:3")
	d.RemoveAll(t)
	assert.Equal(t, h.allLeftovers(t), clean)
}

// again is a second hand, one that hits whatever is there.
func (b *box) again(t *testing.T, random *rand.Rand) {
	t.Helper()
	any := slices.DeleteFunc(slices.Clone(hands), func(h hand) bool {
		return !slices.Contains([]string{"alias", "alias and other names", "name", "rule set flushed", "mangle flushed", "MTU"}, h.name)
	})
	any[random.IntN(len(any))].do(t, b)
}
