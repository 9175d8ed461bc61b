// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// figure says how one is shown. The unit is that of the values.
type figure struct {
	id, title, unit string
	text            string
	base            string  // series that the others are divided by
	goal            float64 // of the median ratio to base, or of the median itself
	goalFor         string  // the series with the goal; "" is all of them
	goalSide        side
	log             bool
	format          string // of a value
}

type side int

const (
	noGoal side = iota
	atMost
	atLeast
	within // of goal, above and below 0
)

const stock = "upstream's"

const runText = "`docker run --rm busybox true` from the command to its end, with upstream's programs of the same version and with ours, in turns. " +
	"\"All limits\" are those of disks (four) and networks (both rates, class)"

var figures = []figure{
	{
		id: "run", title: "docker run, on this host", unit: "s", base: stock, goal: 1.02, goalFor: "ours, all limits", goalSide: atMost, format: "%.3f",
		text: runText + "; the host's kernel has no gpu controller. Both daemons have a bridge in a network of their own.",
	},
	{
		id: "run-v1", title: "docker run, in the VM, cgroup v1", unit: "s", base: stock, goal: 1.02, goalFor: "ours, all limits", goalSide: atMost, format: "%.2f",
		text: runText + ", and GPU memory and priority, in the VM with the patched kernel.",
	},
	{
		id: "run-v2", title: "docker run, in the VM, cgroup v2", unit: "s", base: stock, goal: 1.02, goalFor: "ours, all limits", goalSide: atMost, format: "%.2f",
		text: "The same on cgroup v2.",
	},
	{
		id: "update-100", title: "One change to 100 containers", unit: "s", base: stock, goal: 0.2, goalFor: "modresources", goalSide: atMost, format: "%.3f",
		text: "`--cpu-shares` of 100 running containers in one command: upstream's `docker update` against `docker modresources`, in turns, on this host.",
	},
	{
		id: "update-1", title: "One change to one container", unit: "s", base: stock, goal: 1, goalFor: "modresources", goalSide: atMost, format: "%.3f",
		text: "The same for one container.",
	},
	{
		id: "disk", title: "Rates of disks", unit: "% off the limit", goal: 2, goalSide: within, format: "%+.2f",
		text: "What a container reads from and writes to a loop device in 5 s at its limit, after `docker run` and after a live change. A busy machine does not " +
			"reach a high rate at once: the best of up to three tries is taken.",
	},
	{
		id: "disk-v2", title: "Rates of disks, in the VM, cgroup v2", unit: "% off the limit", goal: 2, goalSide: within, format: "%+.2f",
		text: "The same on cgroup v2, where cached writes count too: what the kernel writes back, by io.stat.",
	},
	{
		id: "net", title: "Rates of networks", unit: "% off the limit", goal: 3, goalSide: within, format: "%+.2f",
		text: "TCP streams of 5 s, at 8 Mbit/s of 30 s, between a container and the host or another container; counted as frames, as tc counts.",
	},
	{
		id: "net-cost", title: "Packets of others while containers have a class", unit: "ns of CPU a packet", base: "0 with a class", goal: 1.05, goalSide: atMost, format: "%.0f",
		text: "UDP packets of 64 bytes from a container without a limit to the uplink: the sender's CPU (of 60 short slices in a row the lower decile, as others on the machine only add), while so many endpoints have a class. Up to 200 of them are " +
			"containers, the others stand in the kernel's tables alone.",
	},
	{
		id: "net-start-1", title: "CPU of docker run, the first one", unit: "s of dockerd's CPU", base: "without limits", goal: 1.3, goalSide: atMost, format: "%.3f",
		text: "`docker run -d` in batches of ten, in turns: dockerd and its children, with both rates and a class and without.",
	},
	{
		id: "net-start-500", title: "CPU of docker run, the 500th one", unit: "s of dockerd's CPU", base: "without limits", goal: 1.3, goalSide: atMost, format: "%.3f",
		text: "The same beside 500 endpoints with limits: 200 containers, the others in the kernel's tables alone.",
	},
	{
		id: "net-dockerd", title: "Start of dockerd over 150 containers", unit: "s", base: "unlimited", goal: 1.1, goalSide: atMost, format: "%.2f",
		text: "With live-restore, after a kill, until the API answers: over the same containers with limits of their networks and without, in turns.",
	},
	{
		id: "net-dockerd-cpu", title: "CPU of that start", unit: "s of dockerd's CPU", base: "unlimited", goal: 1.1, goalSide: atMost, format: "%.2f",
		text: "The same, up to 5 s after the API answers: dockerd and its children.",
	},
	{
		id: "net-idle", title: "dockerd at rest with 200 limited containers", unit: "% of a core", goal: 0.5, goalFor: "the watch", goalSide: atMost, format: "%.2f",
		text: "While nothing happens for 60 s; the watch over the networks is the difference between the same containers with limits and without.",
	},
	{
		id: "net-exact", title: "Rates of networks at the qdisc", unit: "% off the limit", goal: 1, goalSide: within, format: "%+.3f",
		text: "Bytes that passed in 10 s of four TCP streams. A rate that the machine does not get to without a limit is left out.",
	},
	{
		id: "net-first", title: "The first second at a rate", unit: "% over the rate and one bucket", goal: 1, goalSide: atMost, format: "%+.2f",
		text: "Bytes that passed in the first second of four TCP streams, and in the first second after a live change from twice the rate, against what may: the rate and one bucket.",
	},
	{
		id: "gem", title: "GPU buffers", unit: "speed with the controller ÷ without", goal: 0.98, goalSide: atLeast, format: "%.3f",
		text: "Create and close of a buffer of one page, in a cgroup two levels deep with limits, in the VM: a kernel with the controller against one built without it, " +
			"in turns. The machine is emulated: in counted instructions there is little noise and no cache, in time there is both.",
	},
	{
		id: "build", title: "Builds", unit: "s", log: true, format: "%.2f",
		text: "The edit loop, with the module cache warm; and, where it was measured, everything from an empty build cache.",
	},
}

func figureOf(id string) (figure, bool) {
	for _, f := range figures {
		if f.id == id {
			return f, true
		}
	}
	return figure{}, false
}

func place(id string) int {
	for i, f := range figures {
		if f.id == id {
			return i
		}
	}
	return len(figures)
}

// met tells whether a median keeps the goal.
func (f figure) met(v float64) bool {
	switch f.goalSide {
	case atMost:
		return v <= f.goal
	case atLeast:
		return v >= f.goal
	case within:
		return math.Abs(v) <= f.goal
	default:
		return true
	}
}

func (f figure) goalText() string {
	of := "every median"
	if f.goalFor != "" {
		of = f.goalFor
	}
	if f.base != "" {
		of += " ÷ " + f.base
	}
	switch f.goalSide {
	case atMost:
		return fmt.Sprintf("%s at most %g", of, f.goal)
	case atLeast:
		return fmt.Sprintf("%s at least %g", of, f.goal)
	default:
		return fmt.Sprintf("%s within %g %%", of, f.goal)
	}
}

// verdict compares with the goal; "" if there is none.
func (f figure) verdict(m measured) string {
	if f.goalSide == noGoal {
		return ""
	}
	missed, judged := []string{}, 0
	base, _ := m.named(f.base)
	for _, s := range m.Series {
		if f.goalFor != "" && s.Name != f.goalFor || s.Name == f.base {
			continue
		}
		values := s.Values
		if f.base != "" {
			values = ratios(s, base)
		}
		judged++
		if sp := spreadOf(values); !f.met(sp.median) {
			missed = append(missed, fmt.Sprintf("%s: %.3f", s.Name, sp.median))
		}
	}
	switch {
	case judged == 0:
		return "Goal: " + f.goalText() + "; not measured."
	case len(missed) == 0:
		return "Goal: " + f.goalText() + "; reached."
	default:
		return "Goal: " + f.goalText() + "; **not reached** (" + strings.Join(missed, "; ") + ")."
	}
}

const head = `# Performance

Written by ` + "`make bench`" + ` from [what was measured](performance/results.json); do not edit. ` + "`make bench PARTS=\"run net\"`" + ` measures some figures
anew (` + "`scripts/performance/bench.sh`" + ` names the parts), the others stay with their date. In each picture a dot is one value, the bar reaches from
quartile to quartile, the line in it is the median. A ratio is taken turn by turn and then its median.

`

func writePage(r results) []byte {
	b := bytes.NewBufferString(head)
	for _, f := range figures {
		fmt.Fprintf(b, "## %s\n\n%s\n", f.title, f.text)
		m, ok := r.of(f.id)
		if !ok {
			b.WriteString("\nNot measured yet.\n\n")
			continue
		}
		if v := f.verdict(m); v != "" {
			b.WriteString("\n" + v + "\n")
		}
		fmt.Fprintf(b, "\n![%s](performance/%s.svg)\n\n", f.title, f.id)
		f.table(b, m)
		fmt.Fprintf(b, "\n%s.\n\n", m.On)
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

func (f figure) table(b *bytes.Buffer, m measured) {
	columns := []string{"", f.unit + ", median", "quartiles", "least to most", "values"}
	if f.base != "" {
		columns = append(columns, "÷ "+f.base, "quartiles")
	}
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	base, _ := m.named(f.base)
	for _, s := range m.Series {
		sp := spreadOf(s.Values)
		pair := func(low, high float64) string { return fmt.Sprintf(f.format+" to "+f.format, low, high) }
		row := []string{s.Name, fmt.Sprintf(f.format, sp.median), pair(sp.low, sp.high), pair(sp.least, sp.most), fmt.Sprint(sp.n)}
		switch {
		case f.base == "":
		case s.Name == f.base:
			row = append(row, "1", "")
		default:
			sr := spreadOf(ratios(s, base))
			row = append(row, fmt.Sprintf("%.3f", sr.median), fmt.Sprintf("%.3f to %.3f", sr.low, sr.high))
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
}
