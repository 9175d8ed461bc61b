// SPDX-License-Identifier: Apache-2.0

// Command upstream runs upstream's own tests against our trees and compares
// them with what the unpatched trees of the same pins came to:
//
//	upstream packages TREE          packages whose tests can reach a hook of ours
//	upstream record TREE [PKG...]   run them in the stock tree, write the baseline
//	upstream compare TREE [PKG...]  run them in ours, fail on what the baseline passes
//
// A test that fails in our tree but not in the baseline is run twice more before
// it counts, since some of upstream's depend on time; and not at all if ten more
// runs of each show it passing in ours and failing in the stock tree.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// tree says how the tests of a tree are run.
type tree struct {
	name, stock string
	tags        string
	left        []string // folders whose tests need more than a unit test has

	// Of a suite that runs against programs of .build/bin and not in a tree:
	// how, and its packages or files in the stock tree. A package with many tests
	// is there in parts: PACKAGE@REGEXP, for -run.
	script func(ours bool, tests string, packages []string) []string
	fixed  []string

	some bool // packages were named
}

var (
	mobyLeft, cliLeft = []string{"integration", "integration-cli"}, []string{"e2e"}

	mobyIntegration = []string{
		"./integration/container@^Test[A-C]", "./integration/container@^Test[D-M]", "./integration/container@^Test[N-Z]",
		"./integration/system", "./integration/volume", "./integration/capabilities", "./integration/daemon",
		"./integration-cli@^TestDockerCLI(Update|Inspect|Stats|Restart|Start|Ps)Suite$", "./integration-cli@^TestDockerCLIRunSuite$",
	}
	cliE2E = []string{"./e2e/container", "./e2e/cli-plugins", "./e2e/context", "./e2e/global", "./e2e/stack", "./e2e/system"}
)

var trees = []tree{
	{name: "api", stock: "stock-api"},
	{name: "client", stock: "stock-client"},
	{name: "moby", stock: "stock-moby", left: mobyLeft},
	{name: "cli", stock: "stock-cli", left: cliLeft},
	{name: "moby28", stock: "stock-moby28", left: mobyLeft},
	{name: "cli28", stock: "stock-cli28", left: cliLeft},
	{name: "runc", stock: "stock-runc", tags: "seccomp"},
	{name: "cgroups", stock: "stock-cgroups"},
	{name: "moby-integration", script: withDaemon("moby"), fixed: mobyIntegration},
	{name: "cli-e2e", script: withDaemon("cli"), fixed: cliE2E},
	{name: "moby28-integration", script: withDaemon("moby28"), fixed: mobyIntegration},
	{name: "cli28-e2e", script: withDaemon("cli28"), fixed: cliE2E},
	{name: "runc-bats", script: func(ours bool, tests string, files []string) []string {
		runc := "runc"
		if !ours {
			runc = "runc-stock"
		}
		return append([]string{"scripts/upstream/bats.sh", runc, tests}, files...)
	}},
}

func withDaemon(of string) func(bool, string, []string) []string {
	return func(ours bool, tests string, packages []string) []string {
		which := "stock"
		if ours {
			which = "ours"
		}
		return append([]string{"scripts/upstream/suite.sh", of, which, tests}, packages...)
	}
}

func find(name string) (tree, error) {
	var names []string
	for _, t := range trees {
		if t.name == name {
			return t, nil
		}
		names = append(names, t.name)
	}
	return tree{}, fmt.Errorf("no tree %q; there are %s", name, strings.Join(names, ", "))
}

func dir(tree string) string { return filepath.Join(".build", "src", tree) }

func main() {
	root := &cobra.Command{Use: "upstream", SilenceUsage: true, SilenceErrors: true}
	with := func(run func(t tree, packages []string) error) func(*cobra.Command, []string) error {
		return func(_ *cobra.Command, args []string) error {
			t, err := find(args[0])
			if err != nil {
				return err
			}
			packages := args[1:]
			t.some = len(packages) > 0
			if len(packages) == 0 {
				if packages, err = t.reachable(); err != nil {
					return err
				}
			}
			return run(t, packages)
		}
	}
	root.AddCommand(
		&cobra.Command{Use: "packages TREE", Args: cobra.ExactArgs(1), RunE: with(func(_ tree, packages []string) error {
			fmt.Println(strings.Join(packages, "\n"))
			return nil
		})},
		&cobra.Command{Use: "record TREE [PACKAGE...]", Args: cobra.MinimumNArgs(1), RunE: with(func(t tree, packages []string) error {
			if t.script == nil { // what is ours alone is not in the stock tree
				packages = slices.DeleteFunc(packages, func(p string) bool {
					_, err := os.Stat(filepath.Join(dir(t.stock), filepath.FromSlash(p)))
					return err != nil
				})
			}
			r, err := run(t, false, packages, "")
			if err != nil {
				return err
			}
			// Of a few packages: the others keep what they have.
			if data, err := os.ReadFile(t.baseline()); err == nil && t.some {
				r = parse(data).with(r)
			}
			return os.WriteFile(t.baseline(), r.format(t), 0o644)
		})},
		&cobra.Command{Use: "compare TREE [PACKAGE...]", Args: cobra.MinimumNArgs(1), RunE: with(compare)},
	)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func (t tree) baseline() string { return filepath.Join("scripts", "upstream", "baseline", t.name) }

// flags of go in the tree.
func (t tree) flags() []string {
	f := []string{"-mod=readonly"}
	if _, err := os.Stat(filepath.Join(dir(t.name), "vendor.mod")); err == nil {
		f = append(f, "-modfile=vendor.mod")
	}
	if t.tags != "" {
		f = append(f, "-tags="+t.tags)
	}
	return f
}

// touched lists the folders with a hooked Go file or one of ours.
func (t tree) touched() (map[string]bool, error) {
	cmd := exec.Command(filepath.Join(".build", "bin", "tree"), "touched", t.name)
	cmd.Stderr = os.Stderr
	files, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("tree touched: %w", err)
	}
	out := map[string]bool{}
	for _, file := range strings.Fields(string(files)) {
		if strings.HasSuffix(file, ".go") {
			out[path.Dir(file)] = true
		}
	}
	return out, nil
}

type listed struct {
	ImportPath, ForTest string
	Dir                 string
	Deps                []string
	Module              *struct{ Path string }
}

// reachable lists the packages whose test binary links a touched package.
func (t tree) reachable() ([]string, error) {
	if t.fixed != nil {
		return t.fixed, nil
	}
	if t.script != nil {
		files, err := filepath.Glob(filepath.Join(dir("stock-runc"), "tests", "integration", "*.bats"))
		for i := range files {
			files[i] = filepath.Base(files[i])
		}
		return files, err
	}
	touched, err := t.touched()
	if err != nil {
		return nil, err
	}
	args := append([]string{"-C", dir(t.name), "list", "-e", "-test", "-json=ImportPath,ForTest,Deps,Module"}, t.flags()...)
	cmd := exec.Command("go", append(args, "./...")...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []string
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		pkg, isTest := strings.CutSuffix(l.ImportPath, ".test")
		if !isTest || l.Module == nil {
			continue
		}
		rel := relative(l.Module.Path, pkg)
		if slices.ContainsFunc(t.left, func(d string) bool { return rel == d || strings.HasPrefix(rel, d+"/") }) {
			continue
		}
		if touched[rel] || slices.ContainsFunc(l.Deps, func(d string) bool {
			d, _, _ = strings.Cut(d, " ")
			return d == l.Module.Path && touched["."] || strings.HasPrefix(d, l.Module.Path+"/") && touched[relative(l.Module.Path, d)]
		}) {
			packages = append(packages, "./"+rel)
		}
	}
	slices.Sort(packages)
	return slices.Compact(packages), nil
}

func relative(module, pkg string) string {
	if pkg == module {
		return "."
	}
	return strings.TrimPrefix(pkg, module+"/")
}

// result is what a run came to: package → test → pass, fail or skip. A
// package that did not build or died has the test "" failed.
type result map[string]map[string]string

type event struct {
	Action, Package, Test, Output, ImportPath string
	FailedBuild                               string
}

// run tests packages of our tree or of the stock one, or against our programs or
// the stock ones.
func run(t tree, ours bool, packages []string, tests string) (result, error) {
	in := t.name
	if !ours {
		in = "stock-" + t.name
	}
	log, err := os.Create(filepath.Join(".build", "upstream-"+in+".json"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if t.script != nil {
		return collect(log, exec.Command("bash", t.script(ours, tests, packages)...))
	}
	args := []string{"-C", dir(in), "test", "-json", "-count=1", "-trimpath", "-timeout=20m"}
	if tests != "" {
		args = append(args, "-run", tests)
	}
	args = append(append(args, t.flags()...), packages...)
	// What only the tests import has to be fetched while there is a network.
	fetch := exec.Command("go", append(append([]string{"-C", dir(in), "list", "-e", "-deps", "-test"}, t.flags()...), packages...)...)
	if out, err := fetch.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, out)
	}
	// Upstream assumes that the host's network and mounts are its own to play with.
	return collect(log, exec.Command("unshare", append([]string{"--net", "--mount", "sh", "-c", `ip link set lo up && exec "$@"`, "sh", "go"}, args...)...))
}

// collect runs a command that prints go test -json or the TAP of bats.sh.
func collect(log io.Writer, cmd *exec.Cmd) (result, error) {
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := result{}
	var t tap
	sc := bufio.NewScanner(io.TeeReader(pipe, log))
	sc.Buffer(nil, 1<<26)
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) == nil {
			r.add(e)
		} else {
			r.add(t.event(sc.Text()))
		}
	}
	r.add(t.end())
	if err := errors.Join(sc.Err(), cmd.Wait()); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return nil, err
	}
	if len(r) == 0 {
		return nil, fmt.Errorf("no test ran: %s", strings.Join(cmd.Args, " "))
	}
	return r, nil
}

// tap reads what bats prints: "1..3", "ok 1 name", "not ok 2 name", "ok 3 name #
// skip why", with bats.sh's line before each file.
type tap struct {
	file string
	plan int
}

func (t *tap) event(line string) event {
	if file, ok := strings.CutPrefix(line, "# file "); ok {
		e := t.end()
		t.file, t.plan = file, -1 // until it says how many
		return e
	}
	if plan, ok := strings.CutPrefix(line, "1.."); ok {
		if n, err := strconv.Atoi(plan); err == nil {
			t.plan = n
		}
		return event{}
	}
	m := tapLine.FindStringSubmatch(line)
	if m == nil {
		return event{}
	}
	t.plan--
	e := event{Action: "pass", Package: t.file, Test: strings.ReplaceAll(m[2], "/", "_")} // which is no subtest
	if m[1] != "" {
		e.Action = "fail"
	} else if m[3] != "" {
		e.Action = "skip"
	}
	return e
}

var tapLine = regexp.MustCompile(`^(not )?ok \d+ (.*?)( # skip.*)?$`)

// end is the failure of a file that did not run all that it planned.
func (t *tap) end() event {
	if t.file == "" || t.plan == 0 {
		return event{}
	}
	return event{Action: "fail", Package: t.file}
}

func (r result) add(e event) {
	switch e.Action {
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test == "" && e.Action != "fail" {
		return
	}
	if r[e.Package] == nil {
		r[e.Package] = map[string]string{}
	}
	r[e.Package][e.Test] = e.Action
}

// settle drops the failure of a package that failed tests explain.
func (r result) settle() {
	for _, tests := range r {
		for name, is := range tests {
			if name != "" && is == "fail" {
				delete(tests, "")
				break
			}
		}
	}
}

// format writes a baseline: passed top-level tests by name, what failed and
// what was skipped. Subtests count only when they fail: their names may hold
// times and temporary folders.
func (r result) format(t tree) []byte {
	r.settle()
	var lines []string
	for pkg, tests := range r {
		for name, is := range tests {
			if is == "fail" || !strings.Contains(name, "/") {
				lines = append(lines, is+" "+pkg+" "+name)
			}
		}
	}
	slices.Sort(lines)
	return fmt.Appendf(nil, "# %s, unpatched: upstream's tests on %s\n%s\n", t.name, time.Now().UTC().Format(time.DateOnly), strings.Join(lines, "\n"))
}

func parse(data []byte) result {
	r := result{}
	for line := range strings.SplitSeq(string(data), "\n") {
		if f := strings.SplitN(line, " ", 3); len(f) == 3 && f[0] != "#" {
			r.add(event{Action: f[0], Package: f[1], Test: f[2]})
		}
	}
	return r
}

// packageOf finds the argument of a suite that a package of its output is from.
func (t tree) packageOf(pkg string) string {
	for _, p := range t.fixed {
		if p, _, _ := strings.Cut(p, "@"); strings.HasSuffix(pkg, p[1:]) {
			return p
		}
	}
	return pkg
}

// pattern is what selects one test.
func pattern(pkg, name string) string {
	switch {
	case name == "":
		return ""
	case strings.HasSuffix(pkg, ".bats"):
		return "^" + strings.ReplaceAll(regexp.QuoteMeta(name), "_", ".") + "$"
	default:
		return "^" + strings.ReplaceAll(regexp.QuoteMeta(name), "/", "$/^") + "$"
	}
}

// leaves leaves out a test of which a subtest is in the list: it failed by that.
func leaves(tests []string) []string {
	return slices.DeleteFunc(slices.Clone(tests), func(parent string) bool {
		return slices.ContainsFunc(tests, func(o string) bool { return strings.HasPrefix(o, parent+"/") })
	})
}

// with replaces the tests that n has.
func (r result) with(n result) result {
	for pkg, tests := range n {
		for name, is := range tests {
			r.add(event{Action: is, Package: pkg, Test: name})
		}
	}
	return r
}

// only keeps the packages named as ./PATH, and of PATH@REGEXP the tests that match.
func (r result) only(packages []string) result {
	out := result{}
	for _, p := range packages {
		p, tests, _ := strings.Cut(p, "@")
		match := regexp.MustCompile(tests)
		for pkg, all := range r {
			if p != pkg && p != "./." && p != "." && !(strings.HasPrefix(p, "./") && strings.HasSuffix(pkg, p[1:])) {
				continue
			}
			for name, is := range all {
				if top, _, _ := strings.Cut(name, "/"); name == "" || match.MatchString(top) {
					out.add(event{Action: is, Package: pkg, Test: name})
				}
			}
		}
	}
	return out
}

// difference lists what is worse than the baseline in the packages given.
func difference(base, now result) (worse, lost []string) {
	now.settle()
	for pkg, tests := range now {
		for name, is := range tests {
			if is == "fail" && base[pkg][name] != "fail" && base[pkg][""] != "fail" {
				worse = append(worse, pkg+" "+name)
			}
		}
	}
	for pkg, tests := range base {
		if now[pkg] == nil || now[pkg][""] == "fail" {
			if now[pkg] == nil {
				lost = append(lost, pkg)
			}
			continue
		}
		for name, is := range tests {
			if is == "pass" && (now[pkg][name] == "" || now[pkg][name] == "skip") {
				lost = append(lost, pkg+" "+name)
			}
		}
	}
	slices.Sort(worse)
	slices.Sort(lost)
	return worse, lost
}

func (r result) count() (pass, fail, skip int) {
	for _, tests := range r {
		for _, is := range tests {
			switch is {
			case "pass":
				pass++
			case "fail":
				fail++
			default:
				skip++
			}
		}
	}
	return pass, fail, skip
}

// unsteadyInBoth returns those tests that ours passes and the stock build fails,
// each at least once in ten runs.
func unsteadyInBoth(tests []string, once func(ours bool, test string) (bool, error)) (unsteady []string, _ error) {
	for _, test := range tests {
		passed, failed := false, false
		for run := 0; run < 10 && !(passed && failed); run++ {
			if !passed {
				ok, err := once(true, test)
				if err != nil {
					return nil, err
				}
				passed = ok
			}
			if !failed {
				ok, err := once(false, test)
				if err != nil {
					return nil, err
				}
				failed = !ok
			}
		}
		if passed && failed {
			unsteady = append(unsteady, test)
		}
	}
	return unsteady, nil
}

func compare(t tree, packages []string) error {
	data, err := os.ReadFile(t.baseline())
	if err != nil {
		return fmt.Errorf("%w: run upstream record %s", err, t.name)
	}
	all := parse(data)
	base := all.only(packages)
	for _, p := range packages {
		if t.script != nil && len(all.only([]string{p})) == 0 {
			return fmt.Errorf("the stock build has no baseline of %s: run upstream record %s '%s'", p, t.name, p)
		}
	}
	now, err := run(t, true, packages, "")
	if err != nil {
		return err
	}
	worse, lost := difference(base, now)
	flaky := 0
	once := func(ours bool, w string) (passed bool, _ error) {
		pkg, name, _ := strings.Cut(w, " ")
		r, err := run(t, ours, []string{t.packageOf(pkg)}, pattern(pkg, name))
		if err != nil {
			return false, err
		}
		r.settle()
		return r[pkg][name] == "pass", nil
	}
	for again := 0; again < 2 && len(worse) > 0; again++ {
		var still []string
		for _, w := range leaves(worse) {
			passed, err := once(true, w)
			if err != nil {
				return err
			}
			if !passed {
				still = append(still, w)
			} else {
				flaky++
			}
		}
		worse = still
	}
	unsteady, err := unsteadyInBoth(worse, once)
	if err != nil {
		return err
	}
	worse = slices.DeleteFunc(worse, func(w string) bool { return slices.Contains(unsteady, w) })
	pass, fail, skip := now.count()
	fmt.Printf("%s: %d packages; %d passed, %d failed, %d skipped; worse than stock: %d, lost: %d, passed at the second go: %d\n",
		t.name, len(packages), pass, fail, skip, len(worse), len(lost), flaky)
	for _, l := range worse {
		fmt.Println("  NEW FAILURE", l)
	}
	for _, l := range unsteady {
		fmt.Println("  fails now and then, in the stock build too:", l)
	}
	for _, l := range lost {
		fmt.Println("  LOST", l)
	}
	if len(worse)+len(lost) > 0 {
		return errors.New("worse than the stock build")
	}
	return nil
}
