// SPDX-License-Identifier: Apache-2.0

// Command testsum runs suites of tests and sums up what they counted:
//
//	testsum run [--text | --plain | --again] SUITE -- COMMAND [ARG...]
//	testsum report [--passes FILE] [SUITE...]
//
// COMMAND prints `go test -json`, or `go test -v` text (--text), or anything
// (--plain: the suite is one test, passed if the command exits with 0). Each
// suite's counts go to .build/results; report adds them up, prints what failed
// and ends with "N passed, N failed, N skipped". Subtests count as tests.
//
// The suites integration-… are one suite in several places. With --passes, report
// fails for a test of theirs that passed in none of them, and for one on demand whose
// last pass the file does not have.
//
// With --again the packages that failed are run once more, whole, by COMMAND
// with their names added, as upstream's own CI does: some of upstream's tests
// race against a clock. A second failure counts; a second success is reported
// as FLAKY.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"github.com/spf13/cobra"
)

// places begins the names of the suites that are one in several places.
const places = "integration-"

// result is what one suite came to.
type result struct {
	Suite   string
	Passed  int
	Skipped int
	Failed  []string
	Skips   map[string]string // test → its reason
	Passes  []string          `json:",omitempty"` // of a suite that runs in several places
	// Unsteady failed at first and passed with the rest of their package when run again.
	Unsteady []string `json:",omitempty"`
	Seconds  float64

	counts map[string]*count // by package
	prefix string            // of each line that is shown as it comes
}

type count struct {
	passed, failed int
	skips          []string
}

func (r *result) in(pkg string) *count {
	if r.counts == nil {
		r.counts = map[string]*count{}
	}
	if r.counts[pkg] == nil {
		r.counts[pkg] = &count{}
	}
	return r.counts[pkg]
}

// again runs the packages that failed once more and takes that for their result.
func (r *result) again(args []string, out io.Writer) error {
	var pkgs []string
	for pkg, c := range r.counts {
		if c.failed > 0 {
			pkgs = append(pkgs, pkg)
		}
	}
	sort.Strings(pkgs)
	if len(pkgs) == 0 { // nothing that can be named: it did not even start
		return nil
	}
	second, err := runSuite(r.Suite, append(append([]string{}, args...), pkgs...), false, false, "", out)
	if err != nil {
		return err
	}
	for _, pkg := range pkgs {
		r.Passed -= r.counts[pkg].passed
		r.Skipped -= len(r.counts[pkg].skips)
		for _, name := range r.counts[pkg].skips {
			delete(r.Skips, name)
		}
	}
	r.Passed += second.Passed
	r.Skipped += second.Skipped
	for name, why := range second.Skips {
		r.Skips[name] = why
	}
	for _, f := range r.Failed {
		if len(second.Failed) == 0 {
			r.Unsteady = append(r.Unsteady, f)
		}
	}
	r.Failed = second.Failed
	r.Seconds += second.Seconds
	return nil
}

// event is a line of `go test -json` (see `go doc test2json`).
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of build-output
	Elapsed                       float64
}

func main() {
	var dir string
	root := &cobra.Command{Use: "testsum", SilenceUsage: true, SilenceErrors: true}
	root.PersistentFlags().StringVar(&dir, "results", filepath.Join(".build", "results"), "folder that keeps each suite's counts")

	var text, plain, again bool
	var prefix string
	run := &cobra.Command{
		Use:  "run SUITE -- COMMAND [ARG...]",
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := runSuite(args[0], args[1:], text, plain, prefix, os.Stdout)
			if err != nil {
				return err
			}
			if again && len(r.Failed) > 0 {
				if err := r.again(args[1:], os.Stdout); err != nil {
					return err
				}
			}
			data, err := json.MarshalIndent(r, "", "  ")
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, r.Suite+".json"), data, 0o644); err != nil {
				return err
			}
			if len(r.Failed) > 0 {
				return fmt.Errorf("suite %s failed", r.Suite)
			}
			return nil
		},
	}
	run.Flags().BoolVar(&text, "text", false, "the command prints `go test -v` text")
	run.Flags().BoolVar(&plain, "plain", false, "the command is one test by itself")
	run.Flags().StringVar(&prefix, "prefix", "", "put before each line of --text, where two suites run at once")
	run.Flags().BoolVar(&again, "again", false, "run packages that failed once more")
	run.MarkFlagsMutuallyExclusive("text", "plain", "again")

	var passes string
	report := &cobra.Command{
		Use:   "report [SUITE...]",
		Short: "add up the suites; one that is named and left no counts has failed",
		RunE: func(_ *cobra.Command, suites []string) error {
			return writeReport(dir, passes, suites, os.Stdout)
		},
	}
	report.Flags().StringVar(&passes, "passes", "", "file with the last pass of each test on demand")
	root.AddCommand(run, report)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
}

func runSuite(suite string, args []string, text, plain bool, prefix string, out io.Writer) (*result, error) {
	fmt.Fprintf(out, "=== %s: %s\n", suite, strings.Join(args, " "))
	start := time.Now()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	r := &result{Suite: suite, Skips: map[string]string{}, prefix: prefix}

	var runErr error
	switch {
	case plain:
		cmd.Stdout = out
		if runErr = cmd.Run(); runErr == nil {
			r.Passed++
		}
	case text:
		// test2json comes with Go and knows all that -v can print.
		conv := exec.Command("go", "tool", "test2json", "-t", "-p", suite)
		conv.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		conv.Stdin = pipe
		events, err := conv.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		if err := conv.Start(); err != nil {
			return nil, err
		}
		r.read(events, out, true)
		if err := conv.Wait(); err != nil {
			return nil, err
		}
		runErr = cmd.Wait()
	default:
		events, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		r.read(events, out, false)
		runErr = cmd.Wait()
	}
	if exit := (*exec.ExitError)(nil); runErr != nil && !errors.As(runErr, &exit) {
		return nil, runErr
	}
	switch {
	case runErr != nil && len(r.Failed) == 0:
		// Died, did not build, or the machine did not boot: never a pass.
		r.Failed = append(r.Failed, fmt.Sprintf("%s: %v", suite, runErr))
	case runErr == nil && r.Passed+r.Skipped+len(r.Failed) == 0:
		r.Failed = append(r.Failed, suite+": no test ran")
	}
	r.Seconds = time.Since(start).Seconds()
	fmt.Fprintf(out, "=== %s: %d passed, %d failed, %d skipped in %.0f s\n\n", suite, r.Passed, len(r.Failed), r.Skipped, r.Seconds)
	return r, nil
}

// read counts events. Output of a test is shown when it fails, or as it comes
// (live) where a run is long and prints little.
func (r *result) read(events io.Reader, out io.Writer, live bool) {
	type key struct{ pkg, test string }
	output := map[key][]string{}
	sc := bufio.NewScanner(events)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) != nil {
			fmt.Fprintln(out, sc.Text())
			continue
		}
		k := key{e.Package, e.Test}
		name := strings.TrimSuffix(e.Package+"."+e.Test, ".")
		switch e.Action {
		case "output", "build-output":
			switch {
			case live:
				fmt.Fprint(out, r.prefix, e.Output)
			case e.Action == "build-output":
				fmt.Fprint(out, e.Output)
			}
			output[k] = append(output[k], e.Output)
		case "pass":
			if e.Test != "" {
				r.Passed++
				r.in(e.Package).passed++
				if strings.HasPrefix(r.Suite, places) {
					r.Passes = append(r.Passes, e.Test)
				}
			} else if !live {
				fmt.Fprintf(out, "ok   %s %.1f s\n", e.Package, e.Elapsed)
			}
			delete(output, k)
		case "skip":
			if e.Test != "" {
				r.Skipped++
				r.Skips[name] = reason(output[k])
				c := r.in(e.Package)
				c.skips = append(c.skips, name)
			}
			delete(output, k)
		case "fail":
			r.in(e.Package).failed++
			if e.Test == "" {
				if live {
					continue
				}
				fmt.Fprintf(out, "FAIL %s %.1f s\n", e.Package, e.Elapsed)
				if !r.failedIn(e.Package + ".") {
					r.Failed = append(r.Failed, name)
					fmt.Fprint(out, strings.Join(output[k], ""))
				}
				continue
			}
			r.Failed = append(r.Failed, name)
			if !live {
				fmt.Fprint(out, strings.Join(output[k], ""))
			}
		}
	}
}

func (r *result) failedIn(prefix string) bool {
	for _, f := range r.Failed {
		if strings.HasPrefix(f, prefix) {
			return true
		}
	}
	return false
}

// reason is the line that t.Skip printed.
func reason(output []string) string {
	for _, l := range output {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "===") || strings.HasPrefix(l, "---") {
			continue
		}
		return l
	}
	return ""
}

// ranNowhere are the tests that were skipped in each place that has them, but for
// those on demand whose last pass is on record.
func ranNowhere(results map[string]result, onDemand map[string]place.Pass) (failed []string) {
	passed, skips := map[string]bool{}, map[string][]string{}
	for suite, r := range results {
		if !strings.HasPrefix(suite, places) {
			continue
		}
		for _, test := range r.Passes {
			passed[test] = true
		}
		for name, why := range r.Skips {
			test := name[strings.LastIndex(name, ".Test")+1:]
			skips[test] = append(skips[test], strings.TrimPrefix(suite, places)+": "+why)
		}
		for _, name := range r.Failed {
			passed[name[strings.LastIndex(name, ".Test")+1:]] = true // it is in the list as it is
		}
	}
	for _, test := range sortedKeys(skips) {
		if passed[test] {
			continue
		}
		sort.Strings(skips[test])
		all := strings.Join(skips[test], "; ")
		_, command, isOnDemand := strings.Cut(skips[test][0], place.OnDemandPrefix)
		switch _, ok := onDemand[test]; {
		case !isOnDemand:
			failed = append(failed, fmt.Sprintf("%s ran nowhere (%s)", test, all))
		case !ok:
			failed = append(failed, fmt.Sprintf("%s has no pass on record: run %s", test, command))
		}
	}
	return failed
}

func writeReport(dir, passes string, suites []string, out io.Writer) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	results := map[string]result{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		var r result
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		results[r.Suite] = r
	}
	for _, s := range suites {
		if _, ok := results[s]; !ok {
			results[s] = result{Suite: s, Failed: []string{s + ": left no result"}}
		}
	}
	names := make([]string, 0, len(results))
	for s := range results {
		names = append(names, s)
	}
	sort.Strings(names)

	var sum result
	reasons := map[string]int{}
	for _, s := range names {
		r := results[s]
		fmt.Fprintf(out, "%-24s %5d passed %3d failed %4d skipped %6.0f s\n", s, r.Passed, len(r.Failed), r.Skipped, r.Seconds)
		sum.Passed += r.Passed
		sum.Skipped += r.Skipped
		sum.Failed = append(sum.Failed, r.Failed...)
		sum.Unsteady = append(sum.Unsteady, r.Unsteady...)
		for _, why := range r.Skips {
			reasons[s+": "+why]++
		}
	}
	if passes != "" {
		onDemand, err := place.Passes(passes)
		if err != nil {
			return err
		}
		sum.Failed = append(sum.Failed, ranNowhere(results, onDemand)...)
	}
	for _, why := range sortedKeys(reasons) {
		fmt.Fprintf(out, "skipped (%d) %s\n", reasons[why], why)
	}
	for _, f := range sum.Unsteady {
		fmt.Fprintln(out, "FLAKY (passed when run again)", f)
	}
	for _, f := range sum.Failed {
		fmt.Fprintln(out, "FAILED", f)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", sum.Passed, len(sum.Failed), sum.Skipped)
	if len(sum.Failed) > 0 || sum.Passed == 0 {
		return errors.New("not all tests passed")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
