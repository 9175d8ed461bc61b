// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// reach is how much of a vulnerability a program has.
type reach int

const (
	itself reach = iota // The program's own module, or one that a folder replaces.
	symbol              // A vulnerable function is linked.
	pkg                 // The package is, none of the functions.
	module              // Another package of the module is.
)

func (r reach) String() string { return [...]string{"itself", "symbol", "package", "module"}[r] }

// finding is a vulnerability that a program has; the nearest reach counts.
type finding struct {
	id, program     string
	reach           reach
	module, version string
	fixed           string // The version that mends it, "" if none does.
}

type checker struct {
	db, govulncheck string
	known           []known
	pins            pins
}

// pin is a module of a train, "" for any.
type pin struct{ train, module string }

// pins are the versions of the modules that the trees are made from.
type pins map[pin]string

// readPins reads those that a go.mod requires and those in rows of patches/trees, of one
// train each.
func readPins(goMod, trees string) (pins, error) {
	data, err := os.ReadFile(goMod)
	if err != nil {
		return nil, err
	}
	f, err := modfile.Parse(goMod, data, nil)
	if err != nil {
		return nil, err
	}
	p := pins{}
	for _, r := range f.Require {
		p[pin{"", r.Mod.Path}] = r.Mod.Version
	}
	rows, err := os.ReadFile(trees)
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(rows), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.HasPrefix(line, "#") {
			continue
		}
		source := strings.Fields(cells[1])
		_, after, ok := strings.Cut(cells[4], "train ")
		if !ok || len(source) != 3 { // of both trains: go.mod, or no Go
			continue
		}
		train, _, _ := strings.Cut(after, ";")
		p[pin{strings.TrimSpace(train), source[0]}] = source[1]
	}
	return p, nil
}

// secondTrain has its programs in a folder of that name.
const secondTrain = "28"

func (p pins) version(program, module string) (string, bool) {
	train := "29"
	if strings.HasPrefix(programName(program), secondTrain+"/") {
		train = secondTrain
	}
	if v, ok := p[pin{train, module}]; ok {
		return v, true
	}
	v, ok := p[pin{"", module}]
	return v, ok
}

// scan returns what program has, one finding for each vulnerability.
func (c *checker) scan(program string) ([]finding, error) {
	db, err := filepath.Abs(c.db)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(c.govulncheck, "-db", "file://"+filepath.ToSlash(db), "-mode", "binary", "-format", "json", program)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	list, err := readFindings(out, programName(program))
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return nil, err
	}
	own, err := c.unversioned(program)
	if err != nil {
		return nil, err
	}
	return nearest(append(list, own...)), nil
}

// readFindings reads the stream of messages of govulncheck -format json.
func readFindings(r io.Reader, program string) ([]finding, error) {
	var list []finding
	scanned := false
	for d := json.NewDecoder(r); ; {
		var m struct {
			SBOM    *struct{}
			Finding *struct {
				OSV          string
				FixedVersion string `json:"fixed_version"`
				Trace        []struct{ Module, Version, Package, Function string }
			}
		}
		err := d.Decode(&m)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("govulncheck: %w", err)
		}
		scanned = scanned || m.SBOM != nil
		if m.Finding == nil || len(m.Finding.Trace) == 0 {
			continue
		}
		at := m.Finding.Trace[0]
		f := finding{id: m.Finding.OSV, program: program, reach: module, module: at.Module, version: at.Version, fixed: m.Finding.FixedVersion}
		switch {
		case at.Function != "":
			f.reach = symbol
		case at.Package != "":
			f.reach = pkg
		}
		list = append(list, f)
	}
	if !scanned {
		return nil, errors.New("govulncheck looked at no module")
	}
	return list, nil
}

// unversioned returns what the main module of a program has, and modules in it that
// stand in a folder, by the versions they are pinned at.
func (c *checker) unversioned(program string) ([]finding, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	paths := []string{info.Main.Path}
	for _, d := range info.Deps {
		if d.Replace != nil && d.Replace.Version == "" {
			paths = append(paths, d.Path)
		}
	}
	var list []finding
	for _, path := range paths {
		version, ok := c.pins.version(program, path)
		if !ok {
			return nil, fmt.Errorf("module %s has no version in it, in go.mod or in patches/trees", path)
		}
		entries, err := c.affecting(path, version)
		if err != nil {
			return nil, err
		}
		for _, f := range entries {
			f.program, f.reach = programName(program), itself
			list = append(list, f)
		}
	}
	return list, nil
}

// entry is what is read of an OSV entry: https://ossf.github.io/osv-schema.
type entry struct {
	ID        string
	Summary   string
	Withdrawn string
	Aliases   []string
	Affected  []struct {
		Package struct{ Name string }
		Ranges  []struct {
			Type   string
			Events []struct{ Introduced, Fixed string }
		}
	}
}

func (c *checker) entry(id string) (*entry, error) {
	data, err := os.ReadFile(filepath.Join(c.db, "ID", id+".json"))
	if err != nil {
		return nil, err
	}
	e := &entry{}
	return e, json.Unmarshal(data, e)
}

// affecting returns the vulnerabilities of one version of a module.
func (c *checker) affecting(path, version string) ([]finding, error) {
	data, err := os.ReadFile(filepath.Join(c.db, "index", "modules.json"))
	if err != nil {
		return nil, err
	}
	var modules []struct {
		Path  string
		Vulns []struct{ ID string }
	}
	if err := json.Unmarshal(data, &modules); err != nil {
		return nil, err
	}
	var list []finding
	for _, m := range modules {
		if m.Path != path {
			continue
		}
		for _, v := range m.Vulns {
			e, err := c.entry(v.ID)
			if err != nil {
				return nil, err
			}
			if affected, fixed := e.affects(path, version); affected {
				list = append(list, finding{id: e.ID, module: path, version: version, fixed: fixed})
			}
		}
	}
	return list, nil
}

// affects tells if a version of a module is in one of the entry's ranges, and which
// later version ends that range. Versions in the database have no v.
func (e *entry) affects(path, version string) (affected bool, fixed string) {
	if e.Withdrawn != "" {
		return false, ""
	}
	for _, a := range e.Affected {
		if a.Package.Name != path {
			continue
		}
		if len(a.Ranges) == 0 {
			return true, "" // All versions.
		}
		for _, r := range a.Ranges {
			if r.Type != "SEMVER" {
				continue
			}
			in := false
			for _, event := range r.Events { // In the order of versions.
				switch {
				case event.Introduced != "":
					in = event.Introduced == "0" || semver.Compare("v"+event.Introduced, version) <= 0
				case event.Fixed != "" && in && semver.Compare(version, "v"+event.Fixed) < 0:
					return true, "v" + event.Fixed
				case event.Fixed != "":
					in = false
				}
			}
			if in {
				return true, ""
			}
		}
	}
	return false, ""
}

// nearest keeps of each vulnerability of a program the nearest finding, in the order
// of reach and name.
func nearest(list []finding) []finding {
	best := map[string]finding{}
	for _, f := range list {
		if old, ok := best[f.id]; !ok || f.reach < old.reach {
			best[f.id] = f
		}
	}
	list = list[:0]
	for _, f := range best {
		list = append(list, f)
	}
	sortFindings(list)
	return list
}

// cve returns the name that people search for.
func (e *entry) cve() string {
	for _, a := range e.Aliases {
		if strings.HasPrefix(a, "CVE-") {
			return a
		}
	}
	return ""
}
