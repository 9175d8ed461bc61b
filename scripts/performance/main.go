// SPDX-License-Identifier: Apache-2.0

// Command performance keeps what was measured and writes docs/performance.md
// with a picture of each figure:
//
//	performance add < OUTPUT   take the lines "bench,FIGURE,SERIES,VALUE" of a run
//	performance render         write the page and the pictures
//
// What was measured stands in docs/performance/results.json, one figure a line.
// add replaces the figures that OUTPUT has and leaves the others alone.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	page     = "docs/performance.md"
	pictures = "docs/performance"
	stored   = pictures + "/results.json"
)

func main() {
	root := &cobra.Command{Use: "performance", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(
		&cobra.Command{Use: "add", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return add(cmd.InOrStdin())
		}},
		&cobra.Command{Use: "render", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			results, err := load()
			if err != nil {
				return err
			}
			return render(results)
		}},
	)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "performance:", err)
		os.Exit(1)
	}
}

func add(r io.Reader) error {
	measured, err := parse(r)
	if err != nil {
		return err
	}
	if len(measured) == 0 {
		return errors.New("no line \"bench,FIGURE,SERIES,VALUE\" in the output: nothing was measured")
	}
	on, err := here()
	if err != nil {
		return err
	}
	results, err := load()
	if err != nil {
		return err
	}
	for _, m := range measured {
		m.On = on
		results = results.with(m)
	}
	return results.save()
}

// parse takes the lines that begin with "bench,"; the rest is for the reader. The
// name of a series may have commas.
// A picture with half of its values would mislead, so a bad line is an error.
func parse(r io.Reader) (results, error) {
	var out results
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line, ok := strings.CutPrefix(strings.TrimSpace(sc.Text()), "bench,")
		if !ok {
			continue
		}
		name, rest, _ := strings.Cut(line, ",")
		last := strings.LastIndex(rest, ",")
		if last < 1 {
			return nil, fmt.Errorf("%q: want bench,FIGURE,SERIES,VALUE", sc.Text())
		}
		if _, ok := figureOf(name); !ok {
			return nil, fmt.Errorf("%q: no figure is called %q", sc.Text(), name)
		}
		v, err := strconv.ParseFloat(rest[last+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", sc.Text(), err)
		}
		out = out.value(name, rest[:last], v)
	}
	return out, sc.Err()
}

// here describes the machine, now. BENCH_LOAD is the load before the run.
func here() (string, error) {
	commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("git rev-parse: %w", err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	after, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	load := strings.Fields(string(after))[0]
	if before := os.Getenv("BENCH_LOAD"); before != "" {
		load = before + " before, " + load + " after"
	}
	cpu, n := "unknown processor", 0
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu = strings.Join(strings.Fields(value), " ")
			n++
		}
	}
	release, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-")
	return fmt.Sprintf("%s, commit %s, %d × %s, Linux %s, load %s",
		time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(string(commit)), n, cpu, release, load), nil
}

func render(r results) error {
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		return err
	}
	for _, f := range figures {
		name := filepath.Join(pictures, f.id+".svg")
		m, ok := r.of(f.id)
		if !ok {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			continue
		}
		if err := os.WriteFile(name, f.plot(m), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(page, writePage(r), 0o644)
}
