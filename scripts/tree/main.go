// SPDX-License-Identifier: Apache-2.0

// Command tree makes the patched source trees in .build/src from pinned
// upstreams, our new files and our hooks, and writes edits made there back.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "tree:", strings.ReplaceAll(err.Error(), "\n", "\n  "))
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var chdir string
	root := &cobra.Command{
		Use:           "tree",
		Short:         "Make the patched source trees in .build/src and write edits back",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVarP(&chdir, "directory", "C", ".", "run as if started in this folder of the repository")
	root.CompletionOptions.DisableDefaultCmd = true

	// with opens the project. Commands that write hold a lock meanwhile.
	with := func(writes bool, run func(cmd *cobra.Command, p *project, args []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			dir, err := findRoot(chdir)
			if err != nil {
				return err
			}
			p, err := openProject(dir)
			if err != nil {
				return err
			}
			p.log = func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), "tree: "+format+"\n", args...) }
			if writes {
				unlock, err := p.lock()
				if err != nil {
					return err
				}
				defer unlock()
			}
			return run(cmd, p, args)
		}
	}

	var discard bool
	makeCmd := &cobra.Command{
		Use:   "make [TREE...]",
		Short: "Make the trees or bring them up to date (default: all)",
		RunE: with(true, func(cmd *cobra.Command, p *project, args []string) error {
			rows, err := p.pick(args)
			if err != nil {
				return err
			}
			var errs []error
			for _, r := range p.withNeeds(rows) {
				text, err := p.makeTree(r, discard)
				if errs = append(errs, err); err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), text)
				}
			}
			return errors.Join(errs...)
		}),
	}
	makeCmd.Flags().BoolVar(&discard, "discard", false, "drop unsaved edits of upstream files")

	var rewrite bool
	refreshCmd := &cobra.Command{
		Use:   "refresh [TREE...]",
		Short: "Write edits made in the trees back to our patches and folders (default: all that are made)",
		RunE: with(true, func(cmd *cobra.Command, p *project, args []string) error {
			rows, err := p.pick(args)
			if err != nil {
				return err
			}
			var errs []error
			for _, r := range rows {
				if len(args) == 0 {
					if r.own == "" && r.hooks == "" {
						continue
					}
					if _, err := os.Stat(p.dir(r)); err != nil {
						fmt.Fprintln(cmd.OutOrStdout(), r.name+": not made, nothing to write")
						continue
					}
				}
				report, err := p.refresh(r, rewrite)
				errs = append(errs, err)
				for _, line := range report {
					fmt.Fprintln(cmd.OutOrStdout(), line)
				}
			}
			return errors.Join(errs...)
		}),
	}
	refreshCmd.Flags().BoolVar(&rewrite, "rewrite", false, "also write patches anew whose effect is the same, as when line numbers moved")

	hookCmd := &cobra.Command{
		Use:   "hook TREE PATCH FILE",
		Short: "Let a patch own an upstream file, so that refresh writes its hunks",
		Args:  cobra.ExactArgs(3),
		RunE: with(true, func(cmd *cobra.Command, p *project, args []string) error {
			rows, err := p.pick(args[:1])
			if err != nil {
				return err
			}
			text, err := p.hook(rows[0], args[1], args[2])
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), text)
			}
			return err
		}),
	}
	checkCmd := &cobra.Command{
		Use:   "check",
		Short: "Prove that pins, patches, ledger and our files fit together",
		Args:  cobra.NoArgs,
		RunE: with(true, func(cmd *cobra.Command, p *project, _ []string) error {
			return p.checkAll(cmd.OutOrStdout())
		}),
	}
	driversCmd := &cobra.Command{
		Use:   "drivers",
		Short: "Of check, what is about drivers that are told no",
		Args:  cobra.NoArgs,
		RunE: with(false, func(cmd *cobra.Command, p *project, _ []string) error {
			c := &checker{p: p, out: cmd.OutOrStdout()}
			c.checkDrivers()
			return c.result()
		}),
	}
	digestCmd := &cobra.Command{
		Use:   "digest TREE...",
		Short: "Print one hash of all that determines the trees and those they use, unsaved edits included",
		Args:  cobra.MinimumNArgs(1),
		RunE: with(false, func(cmd *cobra.Command, p *project, args []string) error {
			rows, err := p.pick(args)
			if err != nil {
				return err
			}
			sum, err := p.digest(rows)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), sum)
			}
			return err
		}),
	}
	statusCmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how each tree stands",
		Args:  cobra.NoArgs,
		RunE: with(false, func(cmd *cobra.Command, p *project, _ []string) error {
			var errs []error
			for _, r := range p.rows {
				text, err := p.status(r)
				if errs = append(errs, err); err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), text)
				}
			}
			return errors.Join(errs...)
		}),
	}
	var noLeaves bool
	touchedCmd := &cobra.Command{
		Use:   "touched TREE...",
		Short: "Print the files of trees that a hook changes or that are ours",
		Args:  cobra.MinimumNArgs(1),
		RunE: with(false, func(cmd *cobra.Command, p *project, args []string) error {
			rows, err := p.pick(args)
			if err != nil {
				return err
			}
			for _, r := range rows {
				in, err := p.inputs(r)
				if err != nil {
					return err
				}
				files := sortedKeys(in.own)
				if noLeaves {
					files = slices.DeleteFunc(files, func(f string) bool {
						dir, err := filepath.Rel(p.root, filepath.Dir(in.own[f]))
						return err == nil && slices.Contains(leaves, filepath.ToSlash(dir))
					})
				}
				for _, pf := range in.patches {
					for _, s := range pf.sections {
						files = append(files, s.path)
					}
				}
				fmt.Fprintln(cmd.OutOrStdout(), strings.Join(files, "\n"))
			}
			return nil
		}),
	}
	touchedCmd.Flags().BoolVar(&noLeaves, "no-leaves", false, "without packages that are the same in each train, as they import nothing of their tree")
	statsCmd := &cobra.Command{
		Use:   "stats",
		Short: "Count the lines of hooks and of our own, by tree",
		Args:  cobra.NoArgs,
		RunE: with(false, func(cmd *cobra.Command, p *project, _ []string) error {
			return p.stats(cmd.OutOrStdout())
		}),
	}
	var to string
	exportCmd := &cobra.Command{
		Use:   "export [TREE...]",
		Short: "Write a patch series per tree, as git format-patch does, and prove that it gives the tree",
		RunE: with(true, func(cmd *cobra.Command, p *project, args []string) error {
			rows, err := p.pick(args)
			if err != nil {
				return err
			}
			who, err := p.headAuthor()
			if err != nil {
				return err
			}
			if to == "" {
				to = filepath.Join(p.root, ".build", "export")
			}
			var errs []error
			for _, r := range rows {
				if r.own == "" && r.hooks == "" {
					continue
				}
				text, err := p.export(r, to, who)
				if errs = append(errs, err); err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), text)
				}
			}
			return errors.Join(errs...)
		}),
	}
	exportCmd.Flags().StringVarP(&to, "output", "o", "", "folder to write to (default .build/export)")
	var (
		dry   bool
		moved map[string]string
	)
	rebaseCmd := &cobra.Command{
		Use:   "rebase TREE@VERSION...",
		Short: "Carry the hooks to other upstream versions and print what each file costs",
		Long: `Carry the hooks to other upstream versions and print what each file costs.

Pins, patches and trees are written; a conflict is left between marks in the
tree, and refresh refuses the tree until it is settled. With --dry-run nothing
is written, and other modules or a folder can be priced too:

	tree rebase docker@v28.5.2 cli@v28.5.2
	tree rebase --dry-run linux=FOLDER moby=MODULE@VERSION,api=MODULE@VERSION`,
		Args: cobra.MinimumNArgs(1),
		RunE: with(true, func(cmd *cobra.Command, p *project, args []string) error {
			report, done, err := p.rebase(args, moved, dry)
			fmt.Fprint(cmd.OutOrStdout(), report)
			if report != "" {
				err = errors.Join(err, writeFile(filepath.Join(p.root, ".build", "rebase.md"), []byte(report)))
			}
			if err == nil && !done {
				err = errors.New("settle the conflicts in the trees, then make refresh, make and make test")
			}
			return err
		}),
	}
	rebaseCmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "only print the table")
	rebaseCmd.Flags().StringToStringVar(&moved, "moved", nil, "OLD=NEW: upstream renamed a file we hook")
	root.AddCommand(exportCmd, rebaseCmd, makeCmd, refreshCmd, hookCmd, checkCmd, driversCmd, digestCmd, statusCmd, statsCmd, touchedCmd)
	return root
}
