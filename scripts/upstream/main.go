// SPDX-License-Identifier: Apache-2.0

// Command upstream runs upstream's own tests against our trees and compares
// them with what the unpatched trees of the same pins came to:
//
//	upstream packages TREE          packages whose tests can reach a hook of ours
//	upstream record TREE [PKG...]   run them in the stock tree, write the baseline
//	upstream compare TREE [PKG...]  run them in ours, fail on what the baseline passes
//
// A test that fails in our tree but not in the baseline is run twice more
// before it counts: some of upstream's depend on time.
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
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// tree says how the tests of a tree are run.
type tree struct {
	name, stock string
	own         string // our folder of new files
	flags       []string
	left        []string // folders whose tests need more than a unit test has
}

var trees = []tree{
	{"moby", "stock-moby", "moby", []string{"-modfile=vendor.mod", "-mod=readonly"}, []string{"integration", "integration-cli"}},
	{"cli", "stock-cli", "cli", []string{"-modfile=vendor.mod", "-mod=readonly"}, []string{"e2e"}},
	{"runc", "stock-runc", "runc", []string{"-mod=readonly", "-tags=seccomp"}, nil},
	{"cgroups", "stock-cgroups", "runc/vendor/github.com/opencontainers/cgroups", nil, nil},
}

func find(name string) (tree, error) {
	for _, t := range trees {
		if t.name == name {
			return t, nil
		}
	}
	return tree{}, fmt.Errorf("no tree %q; there are moby, cli, runc and cgroups", name)
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
			r, err := run(t, t.stock, packages, "")
			if err != nil {
				return err
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

var hooked = regexp.MustCompile(`(?m)^\+\+\+ b/(.*\.go)$`)

// touched lists the folders with a hooked Go file or one of ours.
func (t tree) touched() (map[string]bool, error) {
	out := map[string]bool{}
	patches, err := filepath.Glob(filepath.Join("patches", t.name, "*.patch"))
	if err != nil {
		return nil, err
	}
	for _, p := range patches {
		data, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		for _, m := range hooked.FindAllStringSubmatch(string(data), -1) {
			out[path.Dir(m[1])] = true
		}
	}
	err = filepath.WalkDir(t.own, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.own, name)
		if d.IsDir() && d.Name() == "vendor" && rel != "." {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, ".go") {
			out[filepath.ToSlash(filepath.Dir(rel))] = true
		}
		return err
	})
	return out, err
}

type listed struct {
	ImportPath, ForTest string
	Dir                 string
	Deps                []string
	Module              *struct{ Path string }
}

// reachable lists the packages whose test binary links a touched package.
func (t tree) reachable() ([]string, error) {
	touched, err := t.touched()
	if err != nil {
		return nil, err
	}
	args := append([]string{"-C", dir(t.name), "list", "-e", "-test", "-json=ImportPath,ForTest,Deps,Module"}, t.flags...)
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

// run tests packages of the tree in a folder of .build/src.
func run(t tree, in string, packages []string, tests string) (result, error) {
	log, err := os.Create(filepath.Join(".build", "upstream-"+in+".json"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := []string{"-C", dir(in), "test", "-json", "-count=1", "-trimpath", "-timeout=20m"}
	if tests != "" {
		args = append(args, "-run", tests)
	}
	args = append(append(args, t.flags...), packages...)
	// What only the tests import has to be fetched while there is a network.
	fetch := exec.Command("go", append(append([]string{"-C", dir(in), "list", "-e", "-deps", "-test"}, t.flags...), packages...)...)
	if out, err := fetch.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, out)
	}
	// Upstream assumes that the host's network and mounts are its own to play with.
	cmd := exec.Command("unshare", append([]string{"--net", "--mount", "sh", "-c", `ip link set lo up && exec "$@"`, "sh", "go"}, args...)...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := result{}
	sc := bufio.NewScanner(io.TeeReader(pipe, log))
	sc.Buffer(nil, 1<<26)
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) == nil {
			r.add(e)
		}
	}
	if err := errors.Join(sc.Err(), cmd.Wait()); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return nil, err
	}
	if len(r) == 0 {
		return nil, fmt.Errorf("no test ran in %s, see %s", in, log.Name())
	}
	return r, nil
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

// only keeps the packages named as ./PATH.
func (r result) only(packages []string) result {
	out := result{}
	for pkg, tests := range r {
		if slices.ContainsFunc(packages, func(p string) bool {
			return p == pkg || p == "./." || p == "." || strings.HasPrefix(p, "./") && strings.HasSuffix(pkg, p[1:])
		}) {
			out[pkg] = tests
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

func compare(t tree, packages []string) error {
	data, err := os.ReadFile(t.baseline())
	if err != nil {
		return fmt.Errorf("%w: run upstream record %s", err, t.name)
	}
	base := parse(data).only(packages)
	now, err := run(t, t.name, packages, "")
	if err != nil {
		return err
	}
	worse, lost := difference(base, now)
	flaky := 0
	for again := 0; again < 2 && len(worse) > 0; again++ {
		var still []string
		for _, w := range worse {
			pkg, name, _ := strings.Cut(w, " ")
			top, _, _ := strings.Cut(name, "/")
			tests := ""
			if top != "" {
				tests = "^" + regexp.QuoteMeta(top) + "$"
			}
			r, err := run(t, t.name, []string{pkg}, tests)
			if err != nil {
				return err
			}
			if r.settle(); r[pkg][name] != "pass" {
				still = append(still, w)
			} else {
				flaky++
			}
		}
		worse = still
	}
	pass, fail, skip := now.count()
	fmt.Printf("%s: %d packages; %d passed, %d failed, %d skipped; worse than stock: %d, lost: %d, passed at the second go: %d\n",
		t.name, len(packages), pass, fail, skip, len(worse), len(lost), flaky)
	for _, l := range worse {
		fmt.Println("  NEW FAILURE", l)
	}
	for _, l := range lost {
		fmt.Println("  LOST", l)
	}
	if len(worse)+len(lost) > 0 {
		return errors.New("worse than the stock build")
	}
	return nil
}
