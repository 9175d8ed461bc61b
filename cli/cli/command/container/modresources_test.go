// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/internal/test"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// One after the other, so that the order of the calls is known.
func init() { atOnce = 1 }

var updateCommands = map[string]func(command.Cli) *cobra.Command{
	"update":       newUpdateCommand,
	"modresources": newModresourcesCommand,
}

// knownCli is the CLI of a daemon that sends Docker-Resource-Features.
type knownCli struct{ *test.FakeCli }

func (knownCli) ServerInfo() command.ServerInfo {
	return command.ServerInfo{OSType: "linux", ResourceFeatures: types.ResourceFeatures{Known: true, Names: []string{"gpu", "blkio-limit", "net-class", "net-rate", "net-pps"}}}
}

// updateClient is a daemon with containers. It merges an update as dockerd
// does for the resources that the tests use.
type updateClient struct {
	fakeClient
	mu         sync.Mutex
	names      map[string]string // name to ID
	containers map[string]*container.HostConfig
	calls      []string
	configs    []container.UpdateConfig

	updateErr  map[string]error // by ID
	lostAnswer map[string]bool  // an updateErr comes after the change
	backErr    map[string]error
	inspectErr func(id string, calls []string) error
	onUpdate   func(context.Context)
	versions   map[string]uint64 // by ID, from 1 up; nil is a daemon that does not count
	backs      []container.UpdateConfig
	onBack     func()
	atOnce     bool // has the call for several containers
}

func (c *updateClient) ContainersResources(_ context.Context, names []string) (all []container.CurrentResources, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.atOnce {
		return nil, errors.New("page not found")
	}
	c.calls = append(c.calls, "resources "+strings.Join(names, " "))
	for _, name := range names {
		hostConfig := c.containers[c.names[name]]
		if hostConfig == nil {
			return nil, errors.New("No such container: " + name)
		}
		all = append(all, container.CurrentResources{Name: name, ID: c.names[name], ResourcesVersion: c.version(c.names[name]), UpdateConfig: container.UpdateConfig{
			Resources: hostConfig.Resources, RestartPolicy: hostConfig.RestartPolicy,
		}})
	}
	return all, nil
}

// newUpdateClient has the containers web, db and cache. They have a CPU weight
// of 100, 200 and 300, db a GPU limit, and cache a restart policy.
func newUpdateClient() *updateClient {
	return &updateClient{
		versions: map[string]uint64{},
		names:    map[string]string{"web": "id-web", "w": "id-web", "db": "id-db", "cache": "id-cache"},
		containers: map[string]*container.HostConfig{
			"id-web":   {Resources: container.Resources{CPUShares: 100}},
			"id-db":    {Resources: container.Resources{CPUShares: 200, GPUMemory: int64Ptr(1 << 30)}},
			"id-cache": {Resources: container.Resources{CPUShares: 300}, RestartPolicy: container.RestartPolicy{Name: "always"}},
		},
	}
}

func (c *updateClient) inspect(ctx context.Context, name string) (inspected, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return inspected{}, err
	}
	id := name
	if byName, ok := c.names[name]; ok {
		id = byName
	}
	calls := c.calls
	c.calls = append(c.calls, "inspect "+id)
	if c.inspectErr != nil {
		if err := c.inspectErr(id, calls); err != nil {
			return inspected{}, err
		}
	}
	hostConfig, ok := c.containers[id]
	if !ok {
		return inspected{}, errors.New("No such container: " + name)
	}
	if hostConfig == nil {
		return inspected{}, nil
	}
	config := *hostConfig
	return inspected{id: id, hostConfig: &config, version: c.version(id)}, nil
}

func (c *updateClient) version(id string) uint64 {
	if c.versions == nil {
		return 0
	}
	return c.versions[id] + 1
}

// other is another client's update.
func (c *updateClient) other(id string, change func(*container.Resources)) {
	change(&c.containers[id].Resources)
	c.versions[id]++
}

func conflict(id string) error {
	return fmt.Errorf("Cannot update container %s: it was changed meanwhile%w", id, errdefs.ErrConflict)
}

func (c *updateClient) update(ctx context.Context, id string, config container.UpdateConfig) (container.UpdateResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if byName, ok := c.names[id]; ok {
		id = byName
	}
	c.calls = append(c.calls, "update "+id)
	c.configs = append(c.configs, config)
	if err := c.updateErr[id]; err != nil && !c.lostAnswer[id] {
		return container.UpdateResponse{}, err
	}
	r := &c.containers[id].Resources
	if config.CPUShares != 0 {
		r.CPUShares = config.CPUShares
	}
	if config.GPUMemory != nil {
		r.GPUMemory = config.GPUMemory
	}
	if config.GPUPriority != nil {
		r.GPUPriority = config.GPUPriority
	}
	if c.onUpdate != nil {
		c.onUpdate(ctx)
	}
	return container.UpdateResponse{Warnings: []string{"careful"}}, c.updateErr[id]
}

func (c *updateClient) ContainerUpdateWith(ctx context.Context, id string, config container.UpdateConfig, options container.UpdateOptions) (container.UpdateResponse, error) {
	if options.Replace == nil {
		c.mu.Lock()
		if options.Version != c.version(id) {
			defer c.mu.Unlock()
			c.calls = append(c.calls, "conflict "+id)
			return container.UpdateResponse{}, conflict(id)
		}
		c.mu.Unlock()
		resp, err := c.update(ctx, id, config)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err == nil || c.lostAnswer[id] {
			c.versions[id]++
		}
		resp.ResourcesVersion = c.version(id)
		return resp, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return container.UpdateResponse{}, err
	}
	if c.onBack != nil {
		c.onBack()
	}
	if options.Version != c.version(id) {
		c.calls = append(c.calls, "conflict "+id)
		return container.UpdateResponse{}, conflict(id)
	}
	c.calls = append(c.calls, "back "+id)
	c.backs = append(c.backs, config)
	if err := c.backErr[id]; err != nil {
		return container.UpdateResponse{}, err
	}
	for _, name := range options.Replace {
		jsonField(reflect.ValueOf(&c.containers[id].Resources).Elem(), name).Set(jsonField(reflect.ValueOf(&config.Resources).Elem(), name))
	}
	c.versions[id]++
	return container.UpdateResponse{ResourcesVersion: c.version(id)}, nil
}

// runUpdating runs a command against a daemon that knows all limits.
func runUpdating(ctx context.Context, newCommand func(command.Cli) *cobra.Command, apiClient *updateClient, args ...string) (stdout, stderr string, _ error) {
	fakeCLI := test.NewFakeCli(apiClient)
	cmd := newCommand(knownCli{fakeCLI})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return fakeCLI.OutBuffer().String(), fakeCLI.ErrBuffer().String(), err
}

func modresourcesCmd(apiClient *updateClient, args ...string) (stdout, stderr string, _ error) {
	return runUpdating(context.Background(), newModresourcesCommand, apiClient, args...)
}

// resourceArgs has one value for each resource flag of update.
var resourceArgs = map[string]struct {
	value string
	want  container.Resources
}{
	"blkio-read-iops-limit":  {"300", container.Resources{BlkioReadIOpsLimit: int64Ptr(300)}},
	"blkio-read-limit":       {"40m", container.Resources{BlkioReadLimit: int64Ptr(40 << 20)}},
	"blkio-weight":           {"300", container.Resources{BlkioWeight: 300}},
	"blkio-weight-device":    {"", container.Resources{BlkioWeightDevice: []*blkiodev.WeightDevice{}}},
	"blkio-write-iops-limit": {"-1", container.Resources{BlkioWriteIOpsLimit: int64Ptr(-1)}},
	"blkio-write-limit":      {"-1", container.Resources{BlkioWriteLimit: int64Ptr(-1)}},
	"cpu-period":             {"100000", container.Resources{CPUPeriod: 100000}},
	"cpu-quota":              {"50000", container.Resources{CPUQuota: 50000}},
	"cpu-rt-period":          {"1000000", container.Resources{CPURealtimePeriod: 1000000}},
	"cpu-rt-runtime":         {"950000", container.Resources{CPURealtimeRuntime: 950000}},
	"cpu-shares":             {"512", container.Resources{CPUShares: 512}},
	"cpus":                   {"1.5", container.Resources{NanoCPUs: 1500000000}},
	"cpuset-cpus":            {"0-3", container.Resources{CpusetCpus: "0-3"}},
	"cpuset-mems":            {"0,1", container.Resources{CpusetMems: "0,1"}},
	"device-read-bps":        {"/dev/sda:1m", container.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1 << 20}}}},
	"device-read-iops":       {"/dev/sda:5", container.Resources{BlkioDeviceReadIOps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 5}}}},
	"device-write-bps":       {"", container.Resources{BlkioDeviceWriteBps: []*blkiodev.ThrottleDevice{}}},
	"device-write-iops":      {"", container.Resources{BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{}}},
	"gpu-memory":             {"10240m", container.Resources{GPUMemory: int64Ptr(10 << 30)}},
	"gpu-priority":           {"0", container.Resources{GPUPriority: int64Ptr(0)}},
	"memory":                 {"300m", container.Resources{Memory: 300 << 20}},
	"memory-reservation":     {"200m", container.Resources{MemoryReservation: 200 << 20}},
	"memory-swap":            {"-1", container.Resources{MemorySwap: -1}},
	"net-classid":            {"0", container.Resources{NetClassID: uint32Ptr(0)}},
	"net-egress-pps":         {"20000", container.Resources{NetEgressPPS: int64Ptr(20000)}},
	"net-ingress-pps":        {"-1", container.Resources{NetIngressPPS: int64Ptr(-1)}},
	"net-egress-rate":        {"20mbit", container.Resources{NetEgressRate: int64Ptr(20e6)}},
	"net-ingress-rate":       {"-1", container.Resources{NetIngressRate: int64Ptr(-1)}},
	"net-prio":               {"", container.Resources{NetPriorities: []container.NetPriority{}}},
	"pids-limit":             {"-1", container.Resources{PidsLimit: int64Ptr(-1)}},
}

// TestUpdateResourceFlags checks that update and modresources have the same
// flags, and that one flag puts one resource into the request.
func TestUpdateResourceFlags(t *testing.T) {
	for name, newCommand := range updateCommands {
		for flag, tc := range resourceArgs {
			t.Run(name+" "+flag, func(t *testing.T) {
				apiClient := newUpdateClient()
				_, _, err := runUpdating(context.Background(), newCommand, apiClient, "--"+flag+"="+tc.value, "web")
				assert.NilError(t, err)
				assert.Check(t, is.DeepEqual(apiClient.configs, []container.UpdateConfig{{Resources: tc.want}}))
			})
		}
	}

	var options updateOptions
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	options.addResourceFlags(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "kernel-memory" || f.Name == "resources-file" {
			return
		}
		_, ok := resourceArgs[f.Name]
		assert.Check(t, ok, "--%s is not tested", f.Name)
		i := slices.IndexFunc(resourceFields, func(r resourceField) bool { return r.Flag == f.Name })
		assert.Assert(t, i >= 0, "--%s is not in resourceFields", f.Name)
		assert.Check(t, !resourceFields[i].Fixed, "--%s is not updatable in resourceFields", f.Name)
	})
	for _, f := range resourceFields {
		assert.Check(t, is.Equal(flags.Lookup(f.Flag) != nil, !f.Fixed), f.Name)
	}
	assert.Check(t, flags.Lookup("restart") == nil)
}

func TestModresourcesErrors(t *testing.T) {
	for _, tc := range []struct {
		doc    string
		args   []string
		expErr string
	}{
		{doc: "no container", args: []string{"--cpu-shares=512"}, expErr: "requires at least 1 argument"},
		{doc: "no resource", args: []string{"web"}, expErr: "no resource is named: use one or more flags such as --memory, or --resources-file"},
		{doc: "no resource, other flags", args: []string{"--dry-run", "web"}, expErr: "no resource is named"},
		{doc: "restart", args: []string{"--restart=no", "web"}, expErr: "unknown flag: --restart"},
		{doc: "kernel memory", args: []string{"--kernel-memory=1g", "web"}, expErr: "--kernel-memory is no longer supported: daemons ignore it"},
		{doc: "zero", args: []string{"--cpu-shares=0", "web"}, expErr: "--cpu-shares=0 would change nothing: an update cannot set this resource to zero or nothing; give another value"},
		{doc: "empty", args: []string{"--cpuset-cpus=", "web"}, expErr: "--cpuset-cpus= would change nothing"},
		{doc: "quiet and format", args: []string{"-q", "--format=json", "--cpu-shares=512", "web"}, expErr: "conflicting options: cannot specify both --quiet and --format"},
		{doc: "show and a resource", args: []string{"--show", "--cpu-shares=512", "web"}, expErr: "conflicting options: cannot specify both --show and --cpu-shares"},
		{doc: "invalid value", args: []string{"--gpu-priority=2000", "web"}, expErr: `invalid argument "2000" for "--gpu-priority" flag: must be a whole number from -1024 to 1024`},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			apiClient := newUpdateClient()
			stdout, _, err := modresourcesCmd(apiClient, tc.args...)
			assert.Check(t, is.ErrorContains(err, tc.expErr))
			assert.Check(t, is.Equal(stdout, ""))
			assert.Check(t, is.Len(apiClient.calls, 0))
		})
	}
}

func TestModresourcesOutput(t *testing.T) {
	const table = `CONTAINER   RESOURCE     OLD          NEW
web         cpu-shares   100          512
web         gpu-memory   unset        -1
db          cpu-shares   200          512
db          gpu-memory   1073741824   -1
`
	for _, tc := range []struct {
		doc  string
		args []string
		exp  string
	}{
		{doc: "default", exp: table},
		{doc: "table", args: []string{"--format=table"}, exp: table},
		{doc: "own table", args: []string{"--format=table {{.Resource}}\t{{.New}}"}, exp: `RESOURCE     NEW
cpu-shares   512
gpu-memory   -1
cpu-shares   512
gpu-memory   -1
`},
		{doc: "template", args: []string{"--format={{.Container}} {{.Resource}} {{.Old}} {{.New}}"}, exp: `web cpu-shares 100 512
web gpu-memory unset -1
db cpu-shares 200 512
db gpu-memory 1073741824 -1
`},
		{doc: "json", args: []string{"--format=json"}, exp: `{"Container":"web","New":"512","Old":"100","Resource":"cpu-shares"}
{"Container":"web","New":"-1","Old":"unset","Resource":"gpu-memory"}
{"Container":"db","New":"512","Old":"200","Resource":"cpu-shares"}
{"Container":"db","New":"-1","Old":"1073741824","Resource":"gpu-memory"}
`},
		{doc: "quiet", args: []string{"--quiet"}, exp: "web\ndb\n"},
	} {
		for _, dryRun := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s dry-run=%v", tc.doc, dryRun), func(t *testing.T) {
				apiClient := newUpdateClient()
				args := append([]string{"--gpu-memory=-1", "--cpu-shares=512", fmt.Sprintf("--dry-run=%v", dryRun)}, tc.args...)
				stdout, stderr, err := modresourcesCmd(apiClient, append(args, "web", "db")...)
				assert.NilError(t, err)
				assert.Check(t, is.Equal(stdout, tc.exp))
				calls := []string{"inspect id-web", "inspect id-db"}
				warnings := ""
				if !dryRun {
					calls = append(calls, "update id-web", "update id-db")
					warnings = "WARNING: web: careful\nWARNING: db: careful\n"
				}
				assert.Check(t, is.DeepEqual(apiClient.calls, calls))
				assert.Check(t, is.Equal(stderr, warnings))
			})
		}
	}
}

// TestModresourcesInvalidFormat checks that a format which fails does so
// before anything is changed.
func TestModresourcesInvalidFormat(t *testing.T) {
	for _, format := range []string{"{{.Container", "{{.NoSuchField}}"} {
		apiClient := newUpdateClient()
		_, _, err := modresourcesCmd(apiClient, "--cpu-shares=512", "--format="+format, "web")
		assert.Check(t, is.ErrorContains(err, "template parsing error"))
		assert.Check(t, is.DeepEqual(apiClient.calls, []string{"inspect id-web"}))
	}
}

func TestModresourcesNames(t *testing.T) {
	for _, tc := range []struct {
		doc  string
		args []string
		exp  string
	}{
		{doc: "flag", args: []string{"--container=web"}, exp: "web\n"},
		{doc: "flag twice", args: []string{"--container=web", "--container", "db"}, exp: "web\ndb\n"},
		{doc: "both", args: []string{"--container=web", "db", "cache"}, exp: "web\ndb\ncache\n"},
		{doc: "same name", args: []string{"--container=web", "db", "web", "db"}, exp: "web\ndb\n"},
		{doc: "same container", args: []string{"w", "db", "id-web"}, exp: "w\ndb\n"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			apiClient := newUpdateClient()
			stdout, _, err := modresourcesCmd(apiClient, append([]string{"-q", "--cpu-shares=512"}, tc.args...)...)
			assert.NilError(t, err)
			assert.Check(t, is.Equal(stdout, tc.exp))
			assert.Check(t, is.Len(apiClient.configs, strings.Count(tc.exp, "\n")))
		})
	}
}

func TestModresourcesMissing(t *testing.T) {
	const expErr = "gone: No such container: gone\nlost: No such container: lost"

	apiClient := newUpdateClient()
	stdout, _, err := modresourcesCmd(apiClient, "--cpu-shares=512", "web", "gone", "lost")
	assert.Check(t, is.Error(err, expErr))
	assert.Check(t, is.Equal(stdout, ""))
	assert.Check(t, is.Len(apiClient.configs, 0))

	apiClient = newUpdateClient()
	stdout, _, err = modresourcesCmd(apiClient, "--partial", "-q", "--cpu-shares=512", "gone", "web", "lost")
	assert.Check(t, is.Error(err, expErr))
	assert.Check(t, is.Equal(stdout, "web\n"))
	assert.Check(t, is.Equal(apiClient.containers["id-web"].CPUShares, int64(512)))

	apiClient = newUpdateClient()
	stdout, _, err = modresourcesCmd(apiClient, "--partial", "--dry-run", "--cpu-shares=512", "gone", "lost")
	assert.Check(t, is.Error(err, expErr))
	assert.Check(t, is.Equal(stdout, ""))

	apiClient = newUpdateClient()
	apiClient.containers["id-db"] = nil
	_, _, err = modresourcesCmd(apiClient, "--cpu-shares=512", "web", "db")
	assert.Check(t, is.Error(err, "db: the daemon did not say which resources it has"))
	assert.Check(t, is.Len(apiClient.configs, 0))
}

// TestModresourcesAllOrNothing lets the change fail in each of three
// containers. All resources must be what they were, the unset ones unset.
func TestModresourcesAllOrNothing(t *testing.T) {
	all := []string{"web", "db", "cache"}
	for i, failing := range all {
		for _, lostAnswer := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s lostAnswer=%v", failing, lostAnswer), func(t *testing.T) {
				apiClient := newUpdateClient()
				apiClient.updateErr = map[string]error{"id-" + failing: errors.New("the kernel said no")}
				apiClient.lostAnswer = map[string]bool{"id-" + failing: lostAnswer}
				stdout, _, err := modresourcesCmd(apiClient, append([]string{"--cpu-shares=512", "--gpu-memory=4g", "--gpu-priority=7"}, all...)...)

				undo := slices.Clone(all[:i])
				if lostAnswer {
					undo = append(undo, failing)
				}
				expErr := failing + ": cannot change cpu-shares, gpu-memory, gpu-priority: the kernel said no; "
				if len(undo) == 0 {
					expErr += "no container was changed"
				} else {
					expErr += "put back to the old values: " + strings.Join(undo, ", ")
				}
				assert.Check(t, is.Error(err, expErr))
				assert.Check(t, is.Equal(stdout, ""))
				assert.Check(t, is.DeepEqual(apiClient.containers, newUpdateClient().containers))

				var calls []string
				for _, name := range all {
					calls = append(calls, "inspect id-"+name)
				}
				for _, name := range all[:i+1] {
					calls = append(calls, "update id-"+name)
				}
				calls = append(calls, "inspect id-"+failing)
				for _, name := range undo {
					calls = append(calls, "back id-"+name)
				}
				assert.Check(t, is.DeepEqual(apiClient.calls, calls))
			})
		}
	}
}

// TestModresourcesManyAtOnce lets one of many fail. What is not known is how
// many were begun by then; none may keep the change.
func TestModresourcesManyAtOnce(t *testing.T) {
	atOnce = 8
	defer func() { atOnce = 1 }()
	for _, failing := range []string{"", "id-17"} {
		apiClient := newUpdateClient()
		var names []string
		for i := range 40 {
			id := fmt.Sprintf("id-%d", i)
			apiClient.containers[id] = &container.HostConfig{Resources: container.Resources{CPUShares: int64(100 + i)}}
			names = append(names, id)
		}
		apiClient.updateErr = map[string]error{failing: errors.New("the kernel said no")}
		_, _, err := modresourcesCmd(apiClient, append([]string{"--cpu-shares=512"}, names...)...)
		assert.Check(t, is.Equal(err != nil, failing != ""), "%v", err)
		for i, id := range names {
			want := int64(512)
			if failing != "" {
				want = int64(100 + i)
			}
			assert.Check(t, is.Equal(apiClient.containers[id].CPUShares, want), id)
		}
	}
}

// TestModresourcesOtherClients lets another client change containers, before and
// after this command does. What it set stays, and what this command set goes.
func TestModresourcesOtherClients(t *testing.T) {
	pids := func(r *container.Resources) { r.PidsLimit = int64Ptr(77) }
	shares := func(r *container.Resources) { r.CPUShares = 333 }

	t.Run("between the look and the change", func(t *testing.T) {
		apiClient := newUpdateClient()
		apiClient.updateErr = map[string]error{"id-db": errors.New("the kernel said no")}
		inspected := 0
		apiClient.inspectErr = func(id string, _ []string) error {
			// After web was looked at: the next look is at db.
			if inspected++; inspected == 2 {
				apiClient.other("id-web", shares)
			}
			return nil
		}
		_, _, err := modresourcesCmd(apiClient, "--cpu-shares=512", "web", "db")
		assert.Check(t, is.Error(err, "db: cannot change cpu-shares: the kernel said no; put back to the old values: web"))
		assert.Check(t, is.Equal(apiClient.containers["id-web"].CPUShares, int64(333)), "not what it had before the other client")
		assert.Check(t, is.Contains(apiClient.calls, "conflict id-web"))
	})
	t.Run("something else, after the change", func(t *testing.T) {
		apiClient := newUpdateClient()
		apiClient.updateErr = map[string]error{"id-db": errors.New("the kernel said no")}
		once := false
		apiClient.onBack = func() {
			if !once {
				once = true
				apiClient.other("id-web", pids)
			}
		}
		_, _, err := modresourcesCmd(apiClient, "--cpu-shares=512", "--gpu-memory=4g", "web", "db")
		assert.Check(t, is.Error(err, "db: cannot change cpu-shares, gpu-memory: the kernel said no; put back to the old values: web"))
		assert.Check(t, is.DeepEqual(apiClient.containers["id-web"].Resources, container.Resources{CPUShares: 100, PidsLimit: int64Ptr(77)}))
	})
	t.Run("the same, after the change", func(t *testing.T) {
		apiClient := newUpdateClient()
		apiClient.updateErr = map[string]error{"id-db": errors.New("the kernel said no")}
		once := false
		apiClient.onBack = func() {
			if !once {
				once = true
				apiClient.other("id-web", shares)
			}
		}
		_, _, err := modresourcesCmd(apiClient, "--cpu-shares=512", "web", "db")
		assert.Check(t, is.Error(err, "db: cannot change cpu-shares: the kernel said no\n"+
			"web: was not put back: another client has changed it since, and it keeps what that one set"))
		assert.Check(t, is.Equal(apiClient.containers["id-web"].CPUShares, int64(333)))
	})
	t.Run("the same, in the container whose change fails", func(t *testing.T) {
		apiClient := newUpdateClient()
		apiClient.updateErr = map[string]error{"id-db": errors.New("the kernel said no")}
		apiClient.inspectErr = func(id string, calls []string) error {
			if slices.Contains(calls, "update id-db") && apiClient.versions["id-db"] == 0 {
				apiClient.other("id-db", shares)
			}
			return nil
		}
		_, _, err := modresourcesCmd(apiClient, "--cpu-shares=512", "web", "db")
		assert.Check(t, is.ErrorContains(err, "whether db was changed all the same is not known: another client has changed it since"))
		assert.Check(t, is.Equal(apiClient.containers["id-db"].CPUShares, int64(333)))
		assert.Check(t, is.Equal(apiClient.containers["id-web"].CPUShares, int64(100)))
	})
	t.Run("of a daemon that does not count", func(t *testing.T) {
		apiClient := newUpdateClient()
		apiClient.versions = nil
		apiClient.updateErr = map[string]error{"id-cache": errors.New("the kernel said no")}
		_, _, err := modresourcesCmd(apiClient, "--cpu-shares=512", "--gpu-memory=4g", "web", "db", "cache")
		assert.Check(t, is.Error(err, "cache: cannot change cpu-shares, gpu-memory: the kernel said no; put back to the old values: db\n"+
			"web: could not be put back, it may keep the new cpu-shares, gpu-memory: this daemon has no way to take off gpu-memory, which was not set"))
		assert.Check(t, is.Equal(apiClient.containers["id-web"].CPUShares, int64(100)))
		assert.Check(t, is.DeepEqual(apiClient.containers["id-db"], newUpdateClient().containers["id-db"]))
	})
}

func TestModresourcesPutBackFails(t *testing.T) {
	apiClient := newUpdateClient()
	apiClient.updateErr = map[string]error{"id-cache": errors.New("the kernel said no")}
	apiClient.backErr = map[string]error{"id-db": errors.New("disk full")}
	_, _, err := modresourcesCmd(apiClient, "--cpu-shares=512", "web", "db", "cache")
	assert.Check(t, is.Error(err, "cache: cannot change cpu-shares: the kernel said no; put back to the old values: web\n"+
		"db: could not be put back, it may keep the new cpu-shares: disk full"))
	assert.Check(t, is.Equal(apiClient.containers["id-web"].CPUShares, int64(100)))

	apiClient = newUpdateClient()
	apiClient.updateErr = map[string]error{"id-db": errors.New("the kernel said no")}
	apiClient.backErr = map[string]error{"id-web": errors.New("disk full")}
	_, _, err = modresourcesCmd(apiClient, "--cpu-shares=512", "web", "db")
	assert.Check(t, is.Error(err, "db: cannot change cpu-shares: the kernel said no\n"+
		"web: could not be put back, it may keep the new cpu-shares: disk full"))
}

// TestModresourcesDaemonGone is a daemon that dies in an update.
func TestModresourcesDaemonGone(t *testing.T) {
	apiClient := newUpdateClient()
	gone := errors.New("connection refused")
	apiClient.updateErr = map[string]error{"id-db": errors.New("EOF")}
	apiClient.backErr = map[string]error{"id-web": gone}
	apiClient.inspectErr = func(_ string, calls []string) error {
		if slices.Contains(calls, "update id-db") {
			return gone
		}
		return nil
	}
	_, _, err := modresourcesCmd(apiClient, "--cpu-shares=512", "web", "db")
	assert.Check(t, is.Error(err, "db: cannot change cpu-shares: EOF; whether db was changed all the same is not known: connection refused\n"+
		"web: could not be put back, it may keep the new cpu-shares: connection refused"))
}

// TestModresourcesInterrupted waits for the update that is under way, and puts
// back what was changed although the context is done. Nobody but the command
// would print why.
func TestModresourcesInterrupted(t *testing.T) {
	defer func(n int) { atOnce = n }(atOnce)
	atOnce = 1
	for _, tc := range []struct {
		name, partial, exp string
		at                 int
		changed            []string
	}{
		{name: "first", at: 1, exp: "interrupted; put back to the old values: web"},
		{name: "last", at: 2, exp: "interrupted; put back to the old values: web, db"},
		{
			name: "partial", partial: "--partial", at: 1, changed: []string{"id-web"},
			exp: "db: interrupted before it was changed",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			apiClient := newUpdateClient()
			updates := 0
			apiClient.onUpdate = func(ctx context.Context) {
				if updates++; updates == tc.at {
					cancel()
					assert.Check(t, ctx.Err())
				}
			}
			args := []string{"--cpu-shares=512", "web", "db"}
			if tc.partial != "" {
				args = append(args, tc.partial)
			}
			_, stderr, err := runUpdating(ctx, newModresourcesCommand, apiClient, args...)
			assert.Check(t, is.ErrorIs(err, context.Canceled))
			assert.Check(t, is.Contains(stderr, tc.exp+"\n"))
			exp := newUpdateClient().containers
			for _, id := range tc.changed {
				exp[id].CPUShares = 512
			}
			assert.Check(t, is.DeepEqual(apiClient.containers, exp))
		})
	}
}

func TestModresourcesPartial(t *testing.T) {
	apiClient := newUpdateClient()
	apiClient.updateErr = map[string]error{"id-web": errors.New("busy"), "id-cache": errors.New("dead")}
	stdout, _, err := modresourcesCmd(apiClient, "--partial", "--cpu-shares=512", "web", "db", "cache")
	assert.Check(t, is.Error(err, "web: cannot change cpu-shares: busy\ncache: cannot change cpu-shares: dead"))
	assert.Check(t, is.Equal(stdout, "CONTAINER   RESOURCE     OLD       NEW\ndb          cpu-shares   200       512\n"))
	assert.Check(t, is.DeepEqual(apiClient.calls, []string{
		"inspect id-web", "inspect id-db", "inspect id-cache", "update id-web", "update id-db", "update id-cache",
	}))
}

func TestResourceText(t *testing.T) {
	for _, tc := range []struct {
		field string
		r     container.Resources
		exp   string
	}{
		{field: "NanoCpus", r: container.Resources{NanoCPUs: 1}, exp: "0.000000001"},
		{field: "NanoCpus", r: container.Resources{NanoCPUs: 2500000000}, exp: "2.5"},
		{field: "PidsLimit", r: container.Resources{PidsLimit: int64Ptr(0)}, exp: "-1"},
		{field: "PidsLimit", r: container.Resources{PidsLimit: int64Ptr(-1)}, exp: "-1"},
		{field: "PidsLimit", exp: "unset"},
		{field: "GPUPriority", r: container.Resources{GPUPriority: int64Ptr(0)}, exp: "0"},
		{field: "GPUPriority", exp: "unset"},
		{field: "Memory", exp: "unset"},
		{field: "Memory", r: container.Resources{Memory: 10241}, exp: "10241"},
		{field: "BlkioDeviceReadBps", exp: "unset"},
		{field: "BlkioDeviceReadBps", r: container.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{}}, exp: "unset"},
		{field: "BlkioDeviceReadBps", r: container.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 5}, {Path: "/dev/sdb", Rate: 6}}}, exp: "/dev/sda:5,/dev/sdb:6"},
		{field: "BlkioWeightDevice", r: container.Resources{BlkioWeightDevice: []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 5}}}, exp: "/dev/sda:5"},
		{field: "NetClassID", exp: "unset"},
		{field: "NetClassID", r: container.Resources{NetClassID: uint32Ptr(0)}, exp: "0"},
		{field: "NetClassID", r: container.Resources{NetClassID: uint32Ptr(0xaaaa0001)}, exp: "aaaa:1"},
		{field: "NetPriorities", r: container.Resources{NetPriorities: []container.NetPriority{{Interface: "eth0", Priority: 5}, {Interface: "eth1", Priority: 6}}}, exp: "eth0:5,eth1:6"},
		{field: "CpusetCpus", r: container.Resources{CpusetCpus: "0-3"}, exp: "0-3"},
	} {
		i := slices.IndexFunc(resourceFields, func(f resourceField) bool { return f.Name == tc.field })
		assert.Check(t, is.Equal(resourceFields[i].text(&tc.r), tc.exp), tc.field)
	}
}

func TestCompleteModresources(t *testing.T) {
	values := []string{"-1024", "-512", "0", "512", "1024"}
	for _, tc := range []struct {
		doc, flag string
		args      []string
		exp       []string
	}{
		{doc: "no container", flag: "gpu-priority", exp: values},
		{doc: "current value", flag: "gpu-memory", args: []string{"db"}, exp: []string{"1073741824", "-1"}},
		{doc: "by flag", flag: "cpu-shares", args: []string{"--container=db"}, exp: []string{"200"}},
		{doc: "flags parsed twice", flag: "cpu-shares", args: []string{"--container=db", "--container=db"}, exp: []string{"200"}},
		{doc: "unset", flag: "gpu-priority", args: []string{"web"}, exp: values},
		{doc: "two containers", flag: "gpu-memory", args: []string{"--container=db", "web"}, exp: []string{"-1"}},
		{doc: "no such container", flag: "gpu-memory", args: []string{"gone"}, exp: []string{"-1"}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			cmd := newModresourcesCommand(knownCli{test.NewFakeCli(newUpdateClient())})
			cmd.SetContext(context.Background())
			assert.NilError(t, cmd.ParseFlags(tc.args))
			complete, ok := cmd.GetFlagCompletionFunc(tc.flag)
			assert.Assert(t, ok)
			got, directive := complete(cmd, cmd.Flags().Args(), "")
			assert.Check(t, is.DeepEqual(got, tc.exp))
			assert.Check(t, is.Equal(directive, cobra.ShellCompDirectiveNoFileComp))
		})
	}

	running := fakeListing(t, container.Summary{ID: "id-web", Names: []string{"/web"}})
	cmd := newModresourcesCommand(knownCli{test.NewFakeCli(running)})
	complete, ok := cmd.GetFlagCompletionFunc("container")
	assert.Assert(t, ok)
	for _, fn := range []cobra.CompletionFunc{complete, cmd.ValidArgsFunction} {
		names, _ := fn(cmd, nil, "")
		assert.Check(t, is.DeepEqual(names, []string{"web"}))
	}
}

// TestModresourcesShow feeds what --show prints back.
func TestModresourcesShow(t *testing.T) {
	apiClient := newUpdateClient()
	full := apiClient.containers["id-db"]
	full.Resources = container.Resources{
		CgroupParent: "/docker", // not updatable, not shown
		BlkioWeight:  300, CPUPeriod: 100000, CPUQuota: -1, CPURealtimePeriod: 1000000, CPURealtimeRuntime: 950000,
		CPUShares: 200, CpusetCpus: "0", CpusetMems: "0,1", GPUMemory: int64Ptr(10241), GPUPriority: int64Ptr(0),
		Memory: 1<<53 + 1, MemoryReservation: 5, MemorySwap: -1, PidsLimit: int64Ptr(0),
		BlkioReadLimit: int64Ptr(40 << 20), BlkioWriteLimit: int64Ptr(-1), BlkioReadIOpsLimit: int64Ptr(5), BlkioWriteIOpsLimit: int64Ptr(6),
		BlkioWeightDevice:    []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 300}},
		BlkioDeviceReadBps:   []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1}, {Path: "/dev/sdb", Rate: 1<<53 + 1}},
		BlkioDeviceReadIOps:  []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 2}},
		BlkioDeviceWriteBps:  []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 3}},
		BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 4}},
		NetClassID:           uint32Ptr(0x100001), NetPriorities: []container.NetPriority{{Interface: "eth0", Priority: 5}},
		NetEgressRate: int64Ptr(20e6), NetIngressRate: int64Ptr(-1), NetEgressPPS: int64Ptr(5), NetIngressPPS: int64Ptr(-1),
	}
	stdout, _, err := modresourcesCmd(apiClient, "--show", "db")
	assert.NilError(t, err)
	assert.Check(t, is.Equal(stdout, `BlkioDeviceReadBps:
    - Path: /dev/sda
      Rate: 1
    - Path: /dev/sdb
      Rate: 9007199254740993
BlkioDeviceReadIOps:
    - Path: /dev/sda
      Rate: 2
BlkioDeviceWriteBps:
    - Path: /dev/sda
      Rate: 3
BlkioDeviceWriteIOps:
    - Path: /dev/sda
      Rate: 4
BlkioReadIOpsLimit: 5
BlkioReadLimit: 41943040
BlkioWeight: 300
BlkioWeightDevice:
    - Path: /dev/sda
      Weight: 300
BlkioWriteIOpsLimit: 6
BlkioWriteLimit: -1
CpuPeriod: 100000
CpuQuota: -1
CpuRealtimePeriod: 1000000
CpuRealtimeRuntime: 950000
CpuShares: 200
CpusetCpus: "0"
CpusetMems: 0,1
GPUMemory: 10241
GPUPriority: 0
Memory: 9007199254740993
MemoryReservation: 5
MemorySwap: -1
NetClassID: 1048577
NetEgressPPS: 5
NetEgressRate: 20000000
NetIngressPPS: -1
NetIngressRate: -1
NetPriorities:
    - Interface: eth0
      Priority: 5
PidsLimit: 0
`))

	path := filepath.Join(t.TempDir(), "limits.yaml")
	assert.NilError(t, os.WriteFile(path, []byte(stdout), 0o600))
	for name, newCommand := range updateCommands {
		apiClient := newUpdateClient()
		_, _, err = runUpdating(context.Background(), newCommand, apiClient, "--resources-file="+path, "web")
		assert.NilError(t, err, name)
		exp := full.Resources
		exp.CgroupParent = ""
		assert.Check(t, is.DeepEqual(apiClient.configs, []container.UpdateConfig{{Resources: exp}}), name)
	}

	for _, f := range resourceFields {
		if !f.Fixed && f.Name != "NanoCpus" {
			assert.Check(t, is.Contains(stdout, f.Name+":"))
		}
	}

	apiClient.containers["id-web"].Resources = container.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{}} // as the CLI creates it
	stdout, _, err = modresourcesCmd(apiClient, "--show", "--container=web")
	assert.NilError(t, err)
	assert.Check(t, is.Equal(stdout, "# no resource is limited\n"))
	_, _, err = modresourcesCmd(apiClient, "--show", "web", "db")
	assert.Check(t, is.Error(err, "--show takes one container"))
	_, _, err = modresourcesCmd(apiClient, "--show", "gone")
	assert.Check(t, is.ErrorContains(err, "No such container: gone"))

	var buf bytes.Buffer
	assert.NilError(t, writeResources(&buf, &container.Resources{NanoCPUs: 1500000000}))
	assert.Check(t, is.Equal(buf.String(), "NanoCpus: 1500000000\n"))
}

func TestModresourcesLooksUpSeveralAtOnce(t *testing.T) {
	run := func(args ...string) (*updateClient, *test.FakeCli, error) {
		apiClient := newUpdateClient()
		apiClient.atOnce = true
		fakeCLI := test.NewFakeCli(apiClient)
		cmd := newModresourcesCommand(knownCli{fakeCLI})
		cmd.SetArgs(append([]string{"--cpu-shares=7"}, args...))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		return apiClient, fakeCLI, cmd.Execute()
	}
	c, _, err := run("web", "db", "w", "web")
	assert.NilError(t, err)
	assert.Check(t, is.DeepEqual(c.calls, []string{"resources web db w", "update id-web", "update id-db"}))
	c, _, err = run("db")
	assert.NilError(t, err)
	assert.Check(t, is.DeepEqual(c.calls, []string{"inspect id-db", "update id-db"}))
	c, _, err = run("web", "none", "db")
	assert.Check(t, is.ErrorContains(err, "No such container: none"))
	assert.Check(t, is.DeepEqual(c.calls, []string{"resources web none db", "inspect id-web", "inspect none", "inspect id-db"}))
	// What is put back is what that call said.
	apiClient := newUpdateClient()
	apiClient.atOnce, apiClient.updateErr = true, map[string]error{"id-cache": errors.New("no")}
	cmd := newModresourcesCommand(knownCli{test.NewFakeCli(apiClient)})
	cmd.SetArgs([]string{"--cpu-shares=7", "db", "cache"})
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	assert.Check(t, is.ErrorContains(cmd.Execute(), "put back to the old values: db"))
	assert.Check(t, is.Equal(apiClient.containers["id-db"].CPUShares, int64(200)))
	assert.Check(t, is.Equal(*apiClient.containers["id-db"].GPUMemory, int64(1<<30)))
}

// TestModresourcesOneDash is the line of the paper, and its like.
func TestModresourcesOneDash(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"-container=X -cpu-shares=50", "unknown flag: -container: did you mean --container=X, with two dashes?"},
		{"-cpu-shares=50 X", "unknown flag: -cpu-shares: did you mean --cpu-shares=50, with two dashes?"},
		{"-memory 1g X", "unknown flag: -memory: did you mean --memory, with two dashes?"},
		{"-gpu-memory=1g X", "unknown flag: -gpu-memory: did you mean --gpu-memory=1g, with two dashes?"},
		{"-blkio-reed-limit=1m X", "unknown flag: -blkio-reed-limit: did you mean --blkio-reed-limit=1m, with two dashes?"},
		{"-c=many X", `invalid argument "many" for "-c, --cpu-shares" flag: strconv.ParseInt: parsing "many": invalid syntax`},
		{"-xyz X", "unknown shorthand flag: 'x' in -xyz"},
	} {
		cmd := newModresourcesCommand(test.NewFakeCli(&fakeClient{}))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(strings.Fields(tc.args))
		assert.Check(t, is.ErrorContains(cmd.Execute(), tc.want), tc.args)
	}
	parent := &cobra.Command{Use: "docker"}
	parent.SetFlagErrorFunc(cli.FlagErrorFunc)
	parent.AddCommand(newModresourcesCommand(test.NewFakeCli(&fakeClient{})))
	parent.SilenceErrors, parent.SilenceUsage = true, true
	parent.SetArgs([]string{"modresources", "-container=X", "-cpu-shares=50"})
	err := parent.Execute()
	assert.Check(t, is.ErrorContains(err, "did you mean --container=X, with two dashes?"))
	assert.Check(t, is.ErrorContains(err, "Usage:  docker modresources"))
}
