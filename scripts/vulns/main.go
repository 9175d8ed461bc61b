// SPDX-License-Identifier: Apache-2.0

// Command vulns looks up the known vulnerabilities of the programs that are built
// here, in the Go vulnerability database of the pinned state, and compares them with
// the list of those that are known to stay. It fails on one that is not in the list,
// on a row whose time is over, and on a row that nothing has any more.
//
// Two ways find them. govulncheck reads the modules and symbols in a program. What it
// cannot see is code without a version: the main module, and modules that a folder
// replaces; those are looked up by the pins in go.mod and patches/trees.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "vulns:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var (
		c                 checker
		knownFile, report string
		write             bool
	)
	cmd := &cobra.Command{
		Use:           "vulns PROGRAM...",
		Short:         "Compare the vulnerabilities of programs with the list of known ones",
		Args:          cobra.MinimumNArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(_ *cobra.Command, programs []string) error {
			var err error
			if c.known, err = readKnown(knownFile); err != nil {
				return err
			}
			if c.pins, err = readPins("go.mod", "patches/trees"); err != nil {
				return err
			}
			var found []finding
			for _, p := range programs {
				f, err := c.scan(p)
				if err != nil {
					return fmt.Errorf("%s: %w", p, err)
				}
				found = append(found, f...)
			}
			table, err := c.table(found)
			if err != nil {
				return err
			}
			faults := compare(found, c.known, time.Now())
			if report != "" {
				faults = append(faults, putTable(report, table, write)...)
			}
			for _, f := range faults {
				fmt.Println("FAIL ", f)
			}
			fmt.Println(summary(found))
			if len(faults) > 0 {
				return errors.New("see above; " + knownFile + " says what a row needs")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.db, "db", ".build/vulns/db", "folder of the database")
	f.StringVar(&c.govulncheck, "govulncheck", ".build/vulns/govulncheck", "program that reads binaries")
	f.StringVar(&knownFile, "known", "scripts/vulns/known", "list of those that stay")
	f.StringVar(&report, "report", "", "document with the table, if any")
	f.BoolVar(&write, "write", false, "write the table instead of comparing it")
	return cmd
}

// Marks around the table in the document.
const (
	tableBegin = "<!-- vulns: made by `make vulns WRITE=1` -->\n"
	tableEnd   = "<!-- end of vulns -->\n"
)

func putTable(file, table string, write bool) []string {
	data, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	before, rest, ok := strings.Cut(string(data), tableBegin)
	_, after, end := strings.Cut(rest, tableEnd)
	if !ok || !end {
		return []string{file + " has no place for the table"}
	}
	text := before + tableBegin + "\n" + table + "\n" + tableEnd + after
	switch {
	case text == string(data):
		return nil
	case !write:
		return []string{file + " does not say what was found: make vulns WRITE=1"}
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return []string{err.Error()}
	}
	return nil
}

func summary(found []finding) string {
	type counts [4]int
	var order []string
	by := map[string]*counts{}
	for _, f := range found {
		c := by[f.program]
		if c == nil {
			c = &counts{}
			by[f.program] = c
			order = append(order, f.program)
		}
		c[f.reach]++
	}
	var b strings.Builder
	for _, p := range order {
		c := by[p]
		fmt.Fprintf(&b, "%s: %d of the program itself, %d with a symbol in it, %d with a package, %d with a module\n", p, c[itself], c[symbol], c[pkg], c[module])
	}
	if len(order) == 0 {
		return "nothing was found"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// programName is the file's name; one of the second train has its folder before it.
func programName(path string) string {
	name := filepath.Base(path)
	if filepath.Base(filepath.Dir(path)) == secondTrain {
		name = secondTrain + "/" + name
	}
	return name
}
