// SPDX-License-Identifier: Apache-2.0

// Package daemon runs a private containerd and dockerd for the tests: own
// folders, sockets, cgroup parent and image; no bridge, no iptables rule, no
// registry. A daemon of the machine is neither needed nor touched.
package daemon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/image"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"golang.org/x/sys/unix"
)

const (
	// Under emulation on a loaded machine dockerd was seen to take 45 seconds.
	startWithin = 3 * time.Minute
	stopWithin  = time.Minute

	logTail = 8000
)

// Daemon is one containerd with one dockerd. It is for one test at a time.
type Daemon struct {
	dir          string
	bin          string
	args, added  []string
	config       config
	ns           *netns.NS
	cgroupParent string // its name, without the slash
	closed       bool
	containerd   *process
	dockerd      *process
	http         *http.Client
}

// Start makes a daemon with the test image in it. Args are added to dockerd's
// command line. The caller must Close it.
func Start(args ...string) (*Daemon, error) { return start(nil, nil, nil, args...) }

// StartRuntimes is Start with more runtimes, a path for each name.
func StartRuntimes(runtimes map[string]string, args ...string) (*Daemon, error) {
	return start(nil, nil, runtimes, args...)
}

// Sets of programs for [StartWith] and [Daemon.Use].
var (
	Stock    = map[string]string{"dockerd": "dockerd-stock", "docker": "docker-stock", "runc": "runc-stock"}
	Previous = map[string]string{"dockerd": "dockerd-previous", "docker": "docker-previous", "runc": "runc-previous"}
)

// StartStock is Start with upstream's dockerd, docker and runc.
func StartStock(args ...string) (*Daemon, error) { return start(Stock, nil, nil, args...) }

// StartIn is Start with dockerd in a network namespace.
func StartIn(ns *netns.NS, args ...string) (*Daemon, error) { return start(nil, ns, nil, args...) }

// StartWith is Start with other programs, a path for each name, and with a network
// if ns is not nil.
func StartWith(programs map[string]string, ns *netns.NS, args ...string) (*Daemon, error) {
	if ns != nil {
		args = append(slices.Clone(withNetwork), args...)
	}
	return start(programs, ns, nil, args...)
}

func start(programs map[string]string, ns *netns.NS, runtimes map[string]string, args ...string) (_ *Daemon, err error) {
	// A short path: names of sockets end at 107 bytes.
	dir, err := os.MkdirTemp("", "gpucg-")
	if err != nil {
		return nil, err
	}
	d := &Daemon{dir: dir, bin: require.Bin(), args: args, config: config{runtimes: maps.Clone(runtimes)}, ns: ns, cgroupParent: filepath.Base(dir)}
	if err := d.use(programs); err != nil {
		return nil, err
	}
	d.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.Socket())
		},
		// A connection kept from before a restart would fail the next call.
		DisableKeepAlives: true,
	}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, d.Logs())
			_ = d.Close()
		}
	}()
	if err := d.startContainerd(); err != nil {
		return nil, err
	}
	if err := d.startDockerd(args); err != nil {
		return nil, err
	}
	return d, d.importImage()
}

func (d *Daemon) use(programs map[string]string) (err error) {
	if programs == nil {
		d.bin = require.Bin()
		return nil
	}
	d.bin, err = linkPrograms(d.dir, programs)
	return err
}

// Use makes the next start of dockerd, and the CLI, that of other programs: Stock,
// Previous, or nil for those under test; args are added to dockerd's command line
// until the next Use. containerd goes on with the PATH that it
// has, so that a shim finds the runc that the daemon was started with.
func (d *Daemon) Use(t testing.TB, programs map[string]string, args ...string) {
	t.Helper()
	d.added = args
	if err := d.use(programs); err != nil {
		t.Fatal(err)
	}
}

// linkPrograms makes a folder below parent like Bin in which some programs are others.
func linkPrograms(parent string, programs map[string]string) (string, error) {
	dir, err := os.MkdirTemp(parent, "bin-")
	if err != nil {
		return "", err
	}
	all, err := os.ReadDir(require.Bin())
	if err != nil {
		return "", err
	}
	for _, e := range all {
		target := e.Name()
		if other, ok := programs[target]; ok {
			target = other
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(require.Bin(), target)
		}
		if err := os.Symlink(target, filepath.Join(dir, e.Name())); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// New is Start for one test: it ends with the test, which shows the logs when
// it failed.
func New(t testing.TB, args ...string) *Daemon {
	t.Helper()
	return newWith(t, nil, nil, args...)
}

// NewIn is New with a network: in ns dockerd has its bridge, forwards packets
// and makes its rules.
func NewIn(t testing.TB, ns *netns.NS, args ...string) *Daemon {
	t.Helper()
	return newWith(t, nil, ns, append(slices.Clone(withNetwork), args...)...)
}

// NewStockIn is NewIn with upstream's dockerd, docker and runc.
func NewStockIn(t testing.TB, ns *netns.NS, args ...string) *Daemon {
	t.Helper()
	return newWith(t, Stock, ns, append(slices.Clone(withNetwork), args...)...)
}

var withNetwork = []string{"--bridge=", "--iptables=true", "--ip6tables=true", "--ip-forward=true"}

func newWith(t testing.TB, programs map[string]string, ns *netns.NS, args ...string) *Daemon {
	t.Helper()
	require.Daemon(t)
	d, err := start(programs, ns, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return Until(t, d)
}

// Until ends a daemon with the test, which shows its logs when it failed.
func Until(t testing.TB, d *Daemon) *Daemon {
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Logs())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Socket is the path of the API.
func (d *Daemon) Socket() string { return filepath.Join(d.dir, "docker.sock") }

// Bundle is where containerd keeps the OCI spec of a running container.
func (d *Daemon) Bundle(id string) string {
	return filepath.Join(d.dir, "containerd-run", "io.containerd.runtime.v2.task", "moby", id)
}

// Binary is the path of a program under test.
func (d *Daemon) Binary(name string) string { return filepath.Join(d.bin, name) }

func (d *Daemon) containerdSocket() string { return filepath.Join(d.dir, "containerd.sock") }

// env gives the servers our runc and shim, which they look up in PATH.
func (d *Daemon) env() []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "PATH=") || strings.HasPrefix(e, "DOCKER_")
	})
	return append(env, "PATH="+d.bin+":"+os.Getenv("PATH"), "DOCKER_CONFIG="+filepath.Join(d.dir, "cli"))
}

func (d *Daemon) startContainerd() error {
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[debug]
  level = "warn"
[grpc]
  address = %q
`, filepath.Join(d.dir, "containerd"), filepath.Join(d.dir, "containerd-run"), d.containerdSocket())
	path := filepath.Join(d.dir, "containerd.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	p, err := startProcess(d.ns, d.log("containerd"), d.env(), d.Binary("containerd"), "--config", path)
	if err != nil {
		return err
	}
	d.containerd = p
	return d.wait(p, "containerd", func() error {
		c, err := net.Dial("unix", d.containerdSocket())
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

func (d *Daemon) startDockerd(extra []string) error {
	if err := d.writeConfig(); err != nil {
		return err
	}
	args := append([]string{
		"--config-file", d.configFile(),
		"--containerd", d.containerdSocket(),
		"--data-root", filepath.Join(d.dir, "docker"),
		"--exec-root", filepath.Join(d.dir, "docker-run"),
		"--pidfile", filepath.Join(d.dir, "docker.pid"),
		"--host", "unix://" + d.Socket(),
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--cgroup-parent", "/" + d.cgroupParent,
		// Nothing of the machine's network is touched.
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--userland-proxy=false",
	}, slices.Concat(extra, d.added)...)
	p, err := startProcess(d.ns, d.log("dockerd"), d.env(), d.Binary("dockerd"), args...)
	if err != nil {
		return err
	}
	d.dockerd = p
	return d.wait(p, "dockerd", func() error {
		resp, err := d.call(http.MethodGet, "/_ping", "", nil)
		if err == nil && resp.Status != http.StatusOK {
			err = fmt.Errorf("/_ping: %d %s", resp.Status, resp.Body)
		}
		return err
	})
}

func (d *Daemon) configFile() string { return filepath.Join(d.dir, "daemon.json") }

// config is the part of the configuration file that the tests change.
type config struct {
	told           bool // in the file; else dockerd's flags may say it
	liveRestore    bool
	defaultRuntime string
	runtimes       map[string]string // their paths
}

// What is no longer in the file stays as it was when dockerd reads it again, and what
// a flag says as well is refused.
func (d *Daemon) writeConfig() error {
	file := map[string]any{}
	if d.config.told {
		file["live-restore"] = d.config.liveRestore
		file["default-runtime"] = cmp.Or(d.config.defaultRuntime, "runc")
	}
	if d.config.runtimes != nil {
		runtimes := map[string]any{}
		for name, path := range d.config.runtimes {
			runtimes[name] = map[string]string{"path": path}
		}
		file["runtimes"] = runtimes
	}
	text, err := json.Marshal(file)
	if err != nil {
		return err
	}
	return os.WriteFile(d.configFile(), text, 0o600)
}

// with changes the configuration of the running dockerd until the test ends. Under
// emulation a restart with other flags, and one back, take ten seconds.
func (d *Daemon) with(t testing.TB, change func(*config)) {
	t.Helper()
	old := d.config
	d.config.runtimes = maps.Clone(old.runtimes)
	d.config.told, old.told = true, true
	change(&d.config)
	d.reload(t)
	t.Cleanup(func() {
		d.config = old
		d.reload(t)
	})
}

// reload has dockerd read the file again, if it runs.
func (d *Daemon) reload(t testing.TB) {
	t.Helper()
	if err := d.writeConfig(); err != nil {
		t.Fatal(err)
	}
	if d.dockerd.ended() {
		return
	}
	if err := unix.Kill(d.dockerd.pid, unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	err := d.wait(d.dockerd, "dockerd", func() error {
		resp, err := d.call(http.MethodGet, "/info", "", nil)
		if err != nil {
			return err
		}
		var info struct {
			LiveRestoreEnabled bool
			DefaultRuntime     string
			Runtimes           map[string]struct{ Path string }
		}
		if err := json.Unmarshal(resp.Body, &info); err != nil {
			return err
		}
		delete(info.Runtimes, "runc")
		delete(info.Runtimes, "io.containerd.runc.v2")
		runtimes := map[string]string{}
		for name, r := range info.Runtimes {
			runtimes[name] = r.Path
		}
		if info.LiveRestoreEnabled != d.config.liveRestore || info.DefaultRuntime != cmp.Or(d.config.defaultRuntime, "runc") || !maps.Equal(runtimes, d.config.runtimes) {
			return fmt.Errorf("it has %+v, not %+v", info, d.config)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// LiveRestore has containers go on without dockerd, until the test ends.
func (d *Daemon) LiveRestore(t testing.TB) {
	t.Helper()
	d.with(t, func(c *config) { c.liveRestore = true })
}

// DefaultRuntime has another one until the test ends.
func (d *Daemon) DefaultRuntime(t testing.TB, name string) {
	t.Helper()
	d.with(t, func(c *config) { c.defaultRuntime = name })
}

// AddRuntime gives a daemon of [StartRuntimes] one more until the test ends, which
// takes all containers with it.
func (d *Daemon) AddRuntime(t testing.TB, name, path string) {
	t.Helper()
	d.with(t, func(c *config) { c.runtimes[name] = path })
	t.Cleanup(func() { d.RemoveAll(t) })
}

// wait asks again and again until the server answers or has ended.
func (d *Daemon) wait(p *process, name string, ready func() error) error {
	var err error
	for end := time.Now().Add(startWithin); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if p.ended() {
			return fmt.Errorf("%s ended while starting: %s", name, p.state)
		}
		if err = ready(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s did not answer in %s: %w", name, startWithin, err)
}

func (d *Daemon) importImage() error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(image.Write(w)) }()
	query := url.Values{"fromSrc": {"-"}, "repo": {image.Name}, "tag": {"latest"}, "changes": image.Changes}
	resp, err := d.call(http.MethodPost, "/images/create?"+query.Encode(), "application/x-tar", r)
	if err != nil {
		return err
	}
	// Errors after the first progress line come with status 200.
	if resp.Status != http.StatusOK || bytes.Contains(resp.Body, []byte(`"error"`)) {
		return fmt.Errorf("import of the test image: %d %s", resp.Status, resp.Body)
	}
	return nil
}

// Close ends everything that was started and removes every trace of it. A second
// call does nothing.
func (d *Daemon) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	err := d.dockerd.stop(stopWithin)
	err = errors.Join(err, d.containerd.stop(stopWithin))
	killShims(d.containerdSocket())
	removeCgroups(d.cgroupParent)
	unmountBelow(d.dir)
	return errors.Join(err, os.RemoveAll(d.dir))
}

// Pid is dockerd's.
func (d *Daemon) Pid() int { return d.dockerd.pid }

// Stop ends dockerd and leaves containerd running.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	if err := d.dockerd.stop(stopWithin); err != nil {
		t.Fatal(err)
	}
}

// Kill ends dockerd as a crash would.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	d.dockerd.kill()
}

// StartAgain starts dockerd on the same folders. With args it gets these in
// place of the ones given to Start.
func (d *Daemon) StartAgain(t testing.TB, args ...string) {
	t.Helper()
	if len(args) == 0 {
		args = d.args
	}
	if err := d.startDockerd(args); err != nil {
		t.Fatal(err)
	}
}

// Restart is Stop and StartAgain.
func (d *Daemon) Restart(t testing.TB, args ...string) {
	t.Helper()
	d.Stop(t)
	d.StartAgain(t, args...)
}

func (d *Daemon) log(name string) string { return filepath.Join(d.dir, name+".log") }

// Logs returns the ends of both logs.
func (d *Daemon) Logs() string {
	var b strings.Builder
	for _, name := range []string{"containerd", "dockerd"} {
		text, err := os.ReadFile(d.log(name))
		if err != nil {
			continue
		}
		if len(text) > logTail {
			text = text[len(text)-logTail:]
		}
		fmt.Fprintf(&b, "---- end of %s's log\n%s", name, text)
	}
	return b.String()
}

// Result is what a docker command did.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Docker runs the CLI under test. A command that fails is a result, not an
// error of the test.
func (d *Daemon) Docker(t testing.TB, args ...string) Result {
	t.Helper()
	return d.CLI(t, d.Binary("docker"), d.Socket(), args...)
}

// CLI is Docker with the program at a path, and a socket that may be a proxy's.
func (d *Daemon) CLI(t testing.TB, program, socket string, args ...string) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, append([]string{"--host", "unix://" + socket}, args...)...)
	cmd.Env = d.env()
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Must runs the CLI, ends the test if the command fails, and returns its
// standard output without the last newline.
func (d *Daemon) Must(t testing.TB, args ...string) string {
	t.Helper()
	r := d.Docker(t, args...)
	if r.Code != 0 {
		t.Fatalf("docker %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// Response is an answer of the API.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Message is the text of an error answer.
func (r Response) Message() string {
	var e struct{ Message string }
	if json.Unmarshal(r.Body, &e) != nil {
		return string(r.Body)
	}
	return e.Message
}

// API sends a request with a JSON body, given as the text itself: most tests
// want to send what a client would not.
func (d *Daemon) API(t testing.TB, method, path, body string) Response {
	t.Helper()
	r, err := d.call(method, path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TryAPI is API for a daemon that may die before it answers.
func (d *Daemon) TryAPI(method, path, body string) (Response, error) {
	return d.call(method, path, "application/json", strings.NewReader(body))
}

// Stream sends a request whose answer does not end by itself. The caller closes
// the body.
func (d *Daemon) Stream(t testing.TB, path string) io.ReadCloser {
	t.Helper()
	resp, err := d.http.Get("http://docker" + path)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		t.Fatalf("GET %s: %s", path, resp.Status)
	}
	return resp.Body
}

// Runc runs the runtime under test on the containers of this daemon, ends the
// test if it fails, and returns its standard output.
func (d *Daemon) Runc(t testing.TB, args ...string) string {
	t.Helper()
	// dockerd tells the shim this folder, and the shim adds its namespace.
	root := filepath.Join(d.dir, "docker-run", "runtime-runc", "moby")
	cmd := exec.Command(d.Binary("runc"), append([]string{"--root", root}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("runc %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

func (d *Daemon) call(method, path, contentType string, body io.Reader) (Response, error) {
	req, err := http.NewRequest(method, "http://docker"+path, body)
	if err != nil {
		return Response{}, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := d.http.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return Response{resp.StatusCode, resp.Header, text}, err
}

// HostConfigFile is what the next dockerd would find of a container.
func (d *Daemon) HostConfigFile(id string) string {
	return filepath.Join(d.dir, "docker", "containers", id, "hostconfig.json")
}

// StateFile is what runc keeps of a container.
func (d *Daemon) StateFile(id string) string {
	return filepath.Join(d.dir, "docker-run", "runtime-runc", "moby", id, "state.json")
}

// Runtimes lists the runcs that are updating containers, or wait for more updates.
func (d *Daemon) Runtimes() []int { return findProcesses("runc", d.updates) }

// KillRuntime kills the runc that is updating containers, if there is one.
func (d *Daemon) KillRuntime() bool { return killProcesses("runc", d.updates) > 0 }

func (d *Daemon) updates(args []string) bool {
	return slices.Contains(args, "update-many") && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, d.dir+"/") })
}

// KillShims kills the shims of all containers, and with them the containers.
func (d *Daemon) KillShims() { killShims(d.containerdSocket()) }

// RestartContainerd ends containerd as a crash would and starts it again.
func (d *Daemon) RestartContainerd(t testing.TB) {
	t.Helper()
	d.containerd.kill()
	if err := d.startContainerd(); err != nil {
		t.Fatal(err)
	}
}
