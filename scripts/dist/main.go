// SPDX-License-Identifier: Apache-2.0

// Command dist describes what is in our programs:
//
//	dist sbom PROGRAM...       a CycloneDX 1.5 document on stdout
//	dist licenses PROGRAM...   the licences of all third parties, with their texts
//
// What is linked is read from the programs themselves, as go version -m does.
// SOURCE_DATE_EPOCH (seconds) is the time in the document.
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"
)

func main() {
	root := &cobra.Command{Use: "dist", SilenceUsage: true}
	root.AddCommand(
		&cobra.Command{Use: "sbom PROGRAM...", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return sbom(cmd.OutOrStdout(), args)
		}},
		&cobra.Command{Use: "licenses PROGRAM...", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return licenses(cmd.OutOrStdout(), args)
		}},
	)
	if root.Execute() != nil {
		os.Exit(1)
	}
}

// program is one of ours and what is linked into it.
type program struct {
	name, sum, goVersion string
	main                 debug.Module
	mods                 []debug.Module
	debs                 []string // Debian packages whose static libraries it holds
}

// cgo programs and copies hold what Go's build info does not know of.
var debs = map[string][]string{
	"runc":        {"libc6-dev", "libseccomp-dev"},
	"runc-stock":  {"libc6-dev", "libseccomp-dev"},
	"docker-init": {"tini", "libc6-dev"},
}

func readProgram(name string) (*program, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	p := &program{name: filepath.Base(name), sum: fmt.Sprintf("%x", sha256.Sum256(data)), debs: debs[filepath.Base(name)]}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		if p.debs != nil {
			return p, nil
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.goVersion, p.main = info.GoVersion, info.Main
	for _, m := range info.Deps {
		p.mods = append(p.mods, *m)
	}
	return p, nil
}

// used is the module whose code is linked, and whether it is one of our trees.
func used(m debug.Module) (mod debug.Module, tree bool) {
	if m.Replace == nil {
		return m, false
	}
	if strings.HasPrefix(m.Replace.Path, "../") || filepath.IsAbs(m.Replace.Path) {
		return m, true
	}
	return *m.Replace, false
}

type (
	object = map[string]any
	list   = []any
)

func sbom(w io.Writer, names []string) error {
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	components := map[string]object{}
	var deps list
	for _, name := range names {
		p, err := readProgram(name)
		if err != nil {
			return err
		}
		ref := "program/" + p.name
		c := object{"type": "application", "bom-ref": ref, "name": p.name, "hashes": list{object{"alg": "SHA-256", "content": p.sum}}}
		if p.main.Path != "" {
			c["properties"] = list{object{"name": "go:main", "value": p.main.Path}}
		}
		components[ref] = c
		var on []string
		add := func(purl, name, version string, props ...any) {
			on = append(on, purl)
			c := object{"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
			if len(props) > 0 {
				c["properties"] = props
			}
			components[purl] = c
		}
		for _, m := range p.mods {
			m, tree := used(m)
			if tree {
				add("pkg:golang/"+m.Path+"@"+m.Version+"?patched=gpu-cgroup", m.Path, m.Version, object{"name": "gpu-cgroup:patched", "value": "true"})
				continue
			}
			add("pkg:golang/"+m.Path+"@"+m.Version, m.Path, m.Version, object{"name": "go:h1", "value": m.Sum})
		}
		if p.goVersion != "" {
			v := strings.TrimPrefix(p.goVersion, "go")
			add("pkg:golang/std@"+v, "std", v)
		}
		for _, d := range p.debs {
			v, err := debVersion(d)
			if err != nil {
				return err
			}
			add("pkg:deb/debian/"+d+"@"+v, d, v)
		}
		slices.Sort(on)
		deps = append(deps, object{"ref": ref, "dependsOn": on})
	}
	var refs []string
	for ref := range components {
		refs = append(refs, ref)
	}
	slices.Sort(refs)
	var all list
	for _, ref := range refs {
		all = append(all, components[ref])
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(object{
		"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata": object{
			"timestamp": time.Unix(epoch, 0).UTC().Format(time.RFC3339),
			"component": object{"type": "application", "bom-ref": "gpu-cgroup", "name": "gpu-cgroup"},
		},
		"components": all, "dependencies": deps,
	})
}

func debVersion(pkg string) (string, error) {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", pkg).Output()
	if err != nil || len(out) == 0 {
		return "", fmt.Errorf("the version of Debian's %s: %w", pkg, errors.Join(err, errors.New("is it installed?")))
	}
	return string(out), nil
}

// kinds tell a licence by a phrase of its own text. The first that fits counts.
var kinds = []struct{ name, phrase string }{
	{"Apache-2.0", "Apache License Version 2.0"},
	{"Apache-2.0", "http://www.apache.org/licenses/LICENSE-2.0"},
	{"MPL-2.0", "Mozilla Public License"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"},
	{"ISC", "Permission to use, copy, modify, and distribute this software for any purpose with or without fee"},
	{"MIT", "Permission is hereby granted, free of charge"},
	{"BSD-3-Clause", "may be used to endorse or promote products"},
	{"BSD-2-Clause", "Redistributions in binary form must reproduce"},
	{"CC0-1.0", "CC0 1.0 Universal"},
	{"Unlicense", "This is free and unencumbered software released into the public domain"},
	{"BSD-3-Clause", "govern the use of this software and associated documentation. BSD 3"},
}

var space = regexp.MustCompile(`[\s*"]+`)

func kind(text string) string {
	flat := strings.ToLower(space.ReplaceAllString(text, " "))
	flat = strings.ReplaceAll(flat, "apache license, version", "apache license version")
	for _, k := range kinds {
		if strings.Contains(flat, strings.ToLower(k.phrase)) {
			return k.name
		}
	}
	return ""
}

var licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|copyright)([-._].*)?$`)

// texts returns the licence files of a folder, sorted by name.
func texts(dir string) (names []string, data map[string]string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	data = map[string]string{}
	for _, e := range entries {
		if e.Type().IsRegular() && licenseName.MatchString(e.Name()) && !strings.HasSuffix(e.Name(), ".go") {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, nil, err
			}
			names = append(names, e.Name())
			data[e.Name()] = string(text)
		}
	}
	return names, data, nil
}

func licenses(w io.Writer, programs []string) error {
	out, err := exec.Command("go", "env", "GOMODCACHE", "GOROOT").Output()
	if err != nil {
		return err
	}
	cache, goroot, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	dirs := map[string]string{} // label → folder
	files := map[string]string{}
	for _, name := range programs {
		p, err := readProgram(name)
		if err != nil {
			return err
		}
		for _, m := range p.mods {
			m, tree := used(m)
			if tree {
				continue // covered by the main module of another program
			}
			path, err1 := module.EscapePath(m.Path)
			version, err2 := module.EscapeVersion(m.Version)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			dirs[m.Path+" "+m.Version] = filepath.Join(cache, path+"@"+version)
		}
		if p.goVersion != "" {
			dirs["Go's standard library "+p.goVersion] = goroot
		}
		for _, d := range p.debs {
			v, err := debVersion(d)
			if err != nil {
				return err
			}
			files["Debian's "+d+" "+v] = filepath.Join("/usr/share/doc", d, "copyright")
		}
	}
	type part struct{ label, kind, text string }
	var parts []part
	var unknown []string
	for label, dir := range dirs {
		names, data, err := texts(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", label, err)
		}
		kinds, text := []string{}, ""
		for _, n := range names {
			if k := kind(data[n]); k != "" && !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
			text += "--- " + n + "\n" + strings.TrimRight(data[n], "\n") + "\n"
		}
		if len(kinds) == 0 {
			unknown = append(unknown, fmt.Sprintf("%s (%d licence files in %s)", label, len(names), filepath.Base(dir)))
			continue
		}
		parts = append(parts, part{label, strings.Join(kinds, ", "), text})
	}
	for label, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		parts = append(parts, part{label, "see text", "--- copyright\n" + string(data)})
	}
	if unknown != nil {
		slices.Sort(unknown)
		return fmt.Errorf("no licence known for:\n%s", strings.Join(unknown, "\n"))
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.label, b.label) })
	fmt.Fprintf(w, "What is linked into the programs of gpu-cgroup: %d third parties.\n\n", len(parts))
	for _, p := range parts {
		fmt.Fprintf(w, "%s: %s\n", p.label, p.kind)
	}
	same := map[string]string{}
	for _, p := range parts {
		fmt.Fprintf(w, "\n=== %s\n", p.label)
		if first, ok := same[p.text]; ok {
			fmt.Fprintf(w, "The same as of %s.\n", first)
			continue
		}
		same[p.text] = p.label
		fmt.Fprint(w, p.text)
	}
	return nil
}
