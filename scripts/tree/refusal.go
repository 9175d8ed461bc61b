// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// refusable are the functions that say no to a container at its limit. Who
// calls one is a row of docs/drivers.md and under the rules of cocciDir.
var refusable = []string{
	"drm_gem_object_init",
	"drm_gem_object_init_offset",
	"drm_gem_charge_ahead",
	"drm_gem_handle_create",
	"drm_gem_handle_create_tail",
	"ttm_bo_init_reserved",
	"ttm_bo_init_validate",
	"drm_sched_job_init",
}

// kernelsOwn make buffers for the kernel, which nobody pays and no limit
// refuses. Who calls them is not followed.
var kernelsOwn = []string{
	"a6xx_gmu_memory_alloc",
	"amdgpu_amdkfd_alloc_gtt_mem",
	"amdgpu_bo_create_reserved",
	"msm_gem_kernel_new",
	"nouveau_bo_new",
	"r600_ih_ring_alloc",
	"r600_vram_scratch_init",
	"radeon_gart_table_vram_alloc",
	"radeon_ring_init",
	"radeon_sa_bo_manager_init",
	"radeon_ttm_init",
	"radeon_wb_init",
	"sumo_rlc_init",
	"vmw_bo_create_kernel",
}

const (
	cocciDir    = "scripts/kernel/cocci"
	driversPage = "docs/drivers.md"
	driversTop  = "drivers/gpu/drm/"
	// passedOn is how far an answer is followed upwards. Further up are
	// functions that load, resume or reset a whole device.
	passedOn = 3
)

// cFunc is a function of a C file and what it calls, name → first line.
type cFunc struct {
	file, name string
	void       bool
	first      int
	last       int
	calls      map[string]int
}

var (
	cNoise   = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'`)
	cMacro   = regexp.MustCompile(`(?m)^[ \t]*#(?:[^\n\\]|\\\n|\\.)*`)
	cHead    = regexp.MustCompile(`([A-Za-z_]\w*)\s*\([^{};]*\)\s*$`)
	cCall    = regexp.MustCompile(`\b([A-Za-z_]\w*)\s*\(`)
	cVoid    = regexp.MustCompile(`\bvoid\s*$`)
	newlines = regexp.MustCompile(`[^\n]`)
)

// scanC finds the functions of a C file in kernel style: { and } of a function
// stand in the first column. Coccinelle is not asked, as it passes over what it
// cannot parse.
func scanC(file string, data []byte) []*cFunc {
	blank := func(b []byte) []byte { return newlines.ReplaceAll(b, nil) }
	data = cNoise.ReplaceAllFunc(data, blank)
	data = cMacro.ReplaceAllFunc(data, blank)
	var out []*cFunc
	var now *cFunc
	head := ""
	for i, line := range strings.Split(string(data), "\n") {
		switch {
		case now != nil && strings.HasPrefix(line, "}"):
			now.last = i + 1
			now, head = nil, ""
		case now != nil:
			for _, m := range cCall.FindAllStringSubmatch(line, -1) {
				if _, ok := now.calls[m[1]]; !ok {
					now.calls[m[1]] = i + 1
				}
			}
		case strings.HasPrefix(line, "{"):
			if m := cHead.FindStringSubmatchIndex(head); m != nil {
				now = &cFunc{file: file, name: head[m[2]:m[3]], void: cVoid.MatchString(head[:m[0]]), first: i + 1, calls: map[string]int{}}
				out = append(out, now)
			}
			head = ""
		case strings.HasPrefix(line, "}"), strings.HasSuffix(line, ";"):
			head = ""
		default:
			head += " " + line
		}
	}
	return out
}

// drivers are the graphics drivers of a kernel tree.
type drivers struct {
	dir    string
	funcs  []*cFunc
	byFile map[string][]*cFunc
}

func scanDrivers(dir string) (*drivers, error) {
	d := &drivers{dir: dir, byFile: map[string][]*cFunc{}}
	for _, top := range []string{"drivers/gpu/drm", "drivers/gpu/host1x", "drivers/accel"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Ext(name) != ".c" {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(dir, name)
			if err != nil {
				return err
			}
			list := scanC(filepath.ToSlash(rel), data)
			d.byFile[filepath.ToSlash(rel)] = list
			d.funcs = append(d.funcs, list...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// passOn returns refusable and who hands its answer on, up to passedOn calls away.
func (d *drivers) passOn() []string {
	called := map[string]bool{}
	for _, f := range d.funcs {
		for name := range f.calls {
			called[name] = true
		}
	}
	names := map[string]bool{}
	for _, n := range refusable {
		names[n] = true
	}
	for range passedOn {
		var more []string
		for _, f := range d.funcs {
			if f.void || names[f.name] || !called[f.name] || slices.Contains(kernelsOwn, f.name) {
				continue
			}
			for n := range f.calls {
				if names[n] {
					more = append(more, f.name)
					break
				}
			}
		}
		for _, n := range more {
			names[n] = true
		}
	}
	return sortedKeys(names)
}

// where names the function at a line.
func (d *drivers) where(file string, line int) string {
	name := "?"
	for _, f := range d.byFile[file] {
		if f.first <= line && line <= f.last {
			return f.name
		}
	}
	return name
}

// callers maps "file:function" to what it calls of refusable.
func (d *drivers) callers() map[string][]string {
	out := map[string][]string{}
	for _, f := range d.funcs {
		for _, n := range refusable {
			if _, ok := f.calls[n]; ok {
				out[strings.TrimPrefix(f.file, driversTop)+":"+f.name] = append(out[strings.TrimPrefix(f.file, driversTop)+":"+f.name], n)
			}
		}
	}
	return out
}

var driversRow = regexp.MustCompile("^\\| `([^`]+\\.c:\\w+)` \\| ([^|]*) \\|(.*)\\|$")

// checkDriversPage compares the list of callers with the tree, both ways.
func (d *drivers) checkPage(root string) error {
	data, err := os.ReadFile(filepath.Join(root, driversPage))
	if err != nil {
		return err
	}
	var errs []error
	callers := d.callers()
	seen := map[string]bool{}
	for i, line := range strings.Split(string(data), "\n") {
		m := driversRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		what := strings.Split(strings.TrimSpace(m[2]), ", ")
		fail := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s:%d: %s: %s", driversPage, i+1, m[1], fmt.Sprintf(format, args...)))
		}
		if seen[m[1]] {
			fail("a second row")
		}
		seen[m[1]] = true
		if want, ok := callers[m[1]]; !ok {
			fail("the tree has no such caller")
		} else if !slices.Equal(want, what) {
			fail("calls %s, not %s", strings.Join(want, ", "), m[2])
		}
		if cells := strings.Split(m[3], "|"); len(cells) != 2 || slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) == "" }) {
			fail("want four filled cells: caller | calls | when it is told no | state")
		}
	}
	for _, c := range sortedKeys(callers) {
		if !seen[c] {
			errs = append(errs, fmt.Errorf("%s: read this caller and say what it does when it is told no: | `%s` | %s | … | … |", driversPage, c, strings.Join(callers[c], ", ")))
		}
	}
	return errors.Join(errs...)
}

// finding is a place that a rule reports.
type finding struct {
	rule, file, function string
	line                 int
	text                 string
}

func (f finding) key() string { return f.rule + " | " + f.file + " | " + f.function }

// rule is a semantic patch of cocciDir.
type rule struct {
	name string
	text string
	// files says which files are worth a look, as Coccinelle is slow.
	files func(f *cFunc) bool
}

var ruleNames = regexp.MustCompile(`identifier f =~ "(\^\([^"]*\)\$)"`)

// readRules fills in the names that only the tree knows.
func readRules(dir string, names []string) ([]rule, error) {
	list, err := filepath.Glob(filepath.Join(dir, "*.cocci"))
	if err != nil {
		return nil, err
	}
	var out []rule
	for _, name := range list {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		r := rule{name: strings.TrimSuffix(filepath.Base(name), ".cocci")}
		r.text = strings.NewReplacer("@PASSED_ON@", strings.Join(names, "|"), "@REFUSABLE@", strings.Join(refusable, "|")).Replace(string(data))
		var res []*regexp.Regexp
		for _, m := range ruleNames.FindAllStringSubmatch(r.text, -1) {
			re, err := regexp.Compile(m[1])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			res = append(res, re)
		}
		words := map[string]bool{}
		for _, n := range names {
			words[n] = slices.ContainsFunc(res, func(re *regexp.Regexp) bool { return re.MatchString(n) }) ||
				regexp.MustCompile(`\b`+n+`\b`).MatchString(string(data))
		}
		r.files = func(f *cFunc) bool {
			for n := range f.calls {
				if words[n] {
					return true
				}
			}
			return false
		}
		out = append(out, r)
	}
	return out, nil
}

// spatch runs a rule over files below dir.
func spatch(dir string, r rule, files []string) ([]finding, error) {
	tmp, err := os.CreateTemp("", r.name+"-*.cocci")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.WriteString(r.text); err == nil {
		err = tmp.Close()
	}
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("spatch", append([]string{"--very-quiet", "--no-includes", "--timeout", "300", "-D", "context", "--sp-file", tmp.Name()}, files...)...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: spatch: %w\n%s", r.name, err, stderr.String()+stdout.String())
	}
	if strings.Contains(stderr.String(), "EXN") { // a file was given up, as for the time it took
		return nil, fmt.Errorf("%s: spatch: %s", r.name, stderr.String())
	}
	return parseContext(r.name, stdout.Bytes())
}

// parseContext reads what spatch prints for lines with a star: a diff that
// would delete them.
func parseContext(rule string, data []byte) ([]finding, error) {
	var out []finding
	file, line, star := "", 0, false
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		text := sc.Text()
		starred := false
		switch {
		case strings.HasPrefix(text, "--- "):
			file = strings.Fields(text)[1]
		case strings.HasPrefix(text, "+++ "), strings.HasPrefix(text, "diff "):
		case strings.HasPrefix(text, "@@ -"):
			n, err := strconv.Atoi(strings.FieldsFunc(text[4:], func(r rune) bool { return r == ',' || r == ' ' })[0])
			if err != nil {
				return nil, fmt.Errorf("%s: %s", rule, text)
			}
			line = n
		case strings.HasPrefix(text, "-"):
			if starred = true; !star {
				out = append(out, finding{rule: rule, file: file, line: line, text: strings.TrimSpace(text[1:])})
			}
			line++
		case strings.HasPrefix(text, "+"):
		case strings.HasPrefix(text, " "), text == "":
			line++
		default: // spatch writes its complaints to either stream
			return nil, fmt.Errorf("%s: spatch: %s", rule, data)
		}
		star = starred
	}
	return out, sc.Err()
}

// inspect runs the rules, two at a time, and remembers what they found.
func (d *drivers) inspect(rules []rule, cache string) ([]finding, error) {
	type job struct {
		rule  rule
		files []string
	}
	var jobs []job
	sum := ""
	for _, r := range rules {
		var files []string
		for _, name := range sortedKeys(d.byFile) {
			if slices.ContainsFunc(d.byFile[name], r.files) {
				data, err := os.ReadFile(filepath.Join(d.dir, name))
				if err != nil {
					return nil, err
				}
				files = append(files, name)
				sum += name + sumOf(data)
			}
		}
		sum += r.text
		for part := range slices.Chunk(files, 25) {
			jobs = append(jobs, job{r, part})
		}
	}
	version, err := exec.Command("spatch", "--version").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("coccinelle: %w: scripts/packages.sh installs it", err)
	}
	cache = filepath.Join(cache, sumOf([]byte(sum+string(version))))
	var out []finding
	if data, err := os.ReadFile(cache); err == nil {
		for line := range strings.Lines(string(data)) {
			f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
			n, err := strconv.Atoi(f[2])
			if err != nil {
				return nil, err
			}
			out = append(out, finding{rule: f[0], file: f[1], line: n, text: f[3]})
		}
	} else {
		queue := make(chan job)
		var lock sync.Mutex
		var errs []error
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for j := range queue {
					list, err := spatch(d.dir, j.rule, j.files)
					lock.Lock()
					out, errs = append(out, list...), append(errs, err)
					lock.Unlock()
				}
			})
		}
		for _, j := range jobs {
			queue <- j
		}
		close(queue)
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		slices.SortFunc(out, func(a, b finding) int {
			return strings.Compare(fmt.Sprint(a.rule, a.file, a.line+1e6), fmt.Sprint(b.rule, b.file, b.line+1e6))
		})
		var text strings.Builder
		for _, f := range out {
			fmt.Fprintf(&text, "%s\t%s\t%d\t%s\n", f.rule, f.file, f.line, f.text)
		}
		// What was found in another state of the tree is of no use any more.
		if err := os.RemoveAll(filepath.Dir(cache)); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(cache), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(cache, []byte(text.String()), 0o644); err != nil {
			return nil, err
		}
	}
	for i := range out {
		out[i].function = d.where(out[i].file, out[i].line)
	}
	return out, nil
}

// readExceptions reads "rule | file | function | reason" lines, key → reason.
func readExceptions(name string) (map[string]string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for i, line := range strings.Split(string(data), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(line, " | ")
		if len(cells) != 4 || strings.TrimSpace(cells[3]) == "" {
			return nil, fmt.Errorf("%s:%d: want rule | file | function | reason", filepath.Base(name), i+1)
		}
		key := strings.Join(cells[:3], " | ")
		if out[key] != "" {
			return nil, fmt.Errorf("%s:%d: %s: a second time", filepath.Base(name), i+1, key)
		}
		out[key] = cells[3]
	}
	return out, nil
}

// judge takes the exceptions from what was found, and tells of those that are
// not needed any more. The rule "calls" is turned round: it has to find each
// caller, and an exception names one that Coccinelle cannot see.
func (d *drivers) judge(found []finding, exceptions map[string]string) error {
	var errs []error
	used := map[string]bool{}
	seen := map[string]bool{}
	for _, f := range found {
		if f.rule == "calls" {
			seen[f.file+":"+f.function] = true
		} else if used[f.key()] = true; exceptions[f.key()] == "" {
			errs = append(errs, fmt.Errorf("%s:%d: %s, in %s: %s", f.file, f.line, f.rule, f.function, f.text))
		}
	}
	for _, c := range sortedKeys(d.callers()) {
		file, function, _ := strings.Cut(driversTop+c, ":")
		if key := "calls | " + file + " | " + function; !seen[file+":"+function] {
			if used[key] = true; exceptions[key] == "" {
				errs = append(errs, fmt.Errorf("%s: Coccinelle cannot read %s: read it by hand and put it into %s", file, function, path.Join(cocciDir, "exceptions")))
			}
		}
	}
	for _, key := range sortedKeys(exceptions) {
		if !used[key] {
			errs = append(errs, fmt.Errorf("%s: nothing needs the exception %s", path.Join(cocciDir, "exceptions"), key))
		}
	}
	return errors.Join(errs...)
}

// checkDrivers looks at each kernel tree that is there.
func (c *checker) checkDrivers() {
	if _, err := os.Stat(filepath.Join(c.p.root, cocciDir)); err != nil {
		return
	}
	for _, r := range c.p.rows {
		if _, err := os.Stat(c.p.dir(r)); err == nil && r.isKernel() {
			c.checkRefusal(r)
		}
	}
}

// checkRefusal proves that each caller of refusable was read and that no rule
// finds one that does not survive a no.
func (c *checker) checkRefusal(r row) {
	p := c.p
	d, err := scanDrivers(p.dir(r))
	if err == nil {
		err = d.checkPage(p.root)
	}
	c.proof(r.name+": "+driversPage+" lists each caller of what may be refused, and no other", err)
	if d == nil {
		return
	}
	check := func() error {
		rules, err := readRules(filepath.Join(p.root, cocciDir), d.passOn())
		if err != nil {
			return err
		}
		exceptions, err := readExceptions(filepath.Join(p.root, cocciDir, "exceptions"))
		if err != nil {
			return err
		}
		found, err := d.inspect(rules, filepath.Join(filepath.Dir(p.src), "cocci"))
		if err != nil {
			return err
		}
		return d.judge(found, exceptions)
	}
	c.proof(r.name+": each caller survives a no, by the rules in "+cocciDir, check())
}
