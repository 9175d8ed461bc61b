// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/internal/test"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "limits.yaml")
	assert.NilError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// TestResourceFields checks that the table has all that the API has.
func TestResourceFields(t *testing.T) {
	ignored := []string{"KernelMemory", "KernelMemoryTCP"}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[container.Resources]()) {
		name := jsonName(f)
		known := slices.ContainsFunc(resourceFields, func(r resourceField) bool { return r.Name == name })
		assert.Check(t, is.Equal(known, !slices.Contains(ignored, name)), name)
	}
	flags, _ := setupRunFlags()
	for _, f := range resourceFields {
		assert.Check(t, f.of(&container.Resources{}).IsValid(), f.Name)
		assert.Check(t, flags.Lookup(f.Flag) != nil, f.Name)
	}
}

func TestParseResources(t *testing.T) {
	two := container.Resources{Memory: 512 << 20, GPUMemory: int64Ptr(10240)}
	for _, tc := range []struct {
		doc, content string
		exp          container.Resources
		names        string
	}{
		{doc: "yaml", content: "Memory: 512m\nGPUMemory: 10240\n", exp: two, names: "Memory GPUMemory"},
		{doc: "json", content: `{"Memory": 536870912, "GPUMemory": 10240}`, exp: two, names: "Memory GPUMemory"},
		{doc: "json with tabs", content: "{\n\t\"Memory\": \"512m\",\n\t\"GPUMemory\": 10240\n}\n", exp: two, names: "Memory GPUMemory"},
		{doc: "one document with markers", content: "---\nMemory: 512m\nGPUMemory: \"10k\"\n...\n", exp: two, names: "Memory GPUMemory"},
		{doc: "null is absent", content: "Memory: 512m\nDevices: null\nGPUPriority:\nGPUMemory: 10240\n", exp: two, names: "Memory GPUMemory"},
		{doc: "comment", content: "# web\nCpuShares: 512 # half\n", exp: container.Resources{CPUShares: 512}, names: "CpuShares"},
		{doc: "strings", content: "CpusetCpus: 0-3\nCpusetMems: \"0\"\n", exp: container.Resources{CpusetCpus: "0-3", CpusetMems: "0"}, names: "CpusetCpus CpusetMems"},
		{doc: "unlimited", content: "MemorySwap: -1\nGPUMemory: -1\nPidsLimit: -1\n", exp: container.Resources{MemorySwap: -1, GPUMemory: int64Ptr(-1), PidsLimit: int64Ptr(-1)}, names: "MemorySwap GPUMemory PidsLimit"},
		{doc: "zeros", content: "GPUPriority: 0\nPidsLimit: 0\nCpuShares: 0\n", exp: container.Resources{GPUPriority: int64Ptr(0), PidsLimit: int64Ptr(0)}, names: "GPUPriority PidsLimit CpuShares"},
		{doc: "rates", content: "BlkioReadLimit: 40m\nBlkioWriteIOpsLimit: -1\nNetEgressRate: 20mbit\n", exp: container.Resources{BlkioReadLimit: int64Ptr(40 << 20), BlkioWriteIOpsLimit: int64Ptr(-1), NetEgressRate: int64Ptr(20e6)}, names: "BlkioReadLimit BlkioWriteIOpsLimit NetEgressRate"},
		{doc: "class", content: "NetClassID: 10:1\n", exp: container.Resources{NetClassID: uint32Ptr(0x100001)}, names: "NetClassID"},
		{doc: "class in json", content: `{"NetClassID": 4294967295}`, exp: container.Resources{NetClassID: uint32Ptr(1<<32 - 1)}, names: "NetClassID"},
		{doc: "class in hexadecimal", content: "NetClassID: 0x100001\n", exp: container.Resources{NetClassID: uint32Ptr(0x100001)}, names: "NetClassID"},
		{doc: "network priorities", content: "NetPriorities: [{Interface: eth0, Priority: 5}]\n", exp: container.Resources{NetPriorities: []container.NetPriority{{Interface: "eth0", Priority: 5}}}, names: "NetPriorities"},
		{doc: "empty list", content: "NetPriorities: []\n", exp: container.Resources{NetPriorities: []container.NetPriority{}}, names: "NetPriorities"},
		{doc: "bool", content: "OomKillDisable: true\n", exp: container.Resources{OomKillDisable: func() *bool { b := true; return &b }()}, names: "OomKillDisable"},
		{doc: "above 2^53", content: "Memory: 9007199254740993\n", exp: container.Resources{Memory: 9007199254740993}, names: "Memory"},
		{doc: "largest", content: "IOMaximumIOps: 18446744073709551615\nGPUMemory: 9223372036854775807\n", exp: container.Resources{IOMaximumIOps: 1<<64 - 1, GPUMemory: int64Ptr(1<<63 - 1)}, names: "IOMaximumIOps GPUMemory"},
		{
			doc: "lists",
			content: `
BlkioDeviceReadBps:
  - {Path: /dev/sda, Rate: 1m}
  - Path: /dev/sdb
    Rate: 100
BlkioWeightDevice: [{Path: /dev/sda, Weight: 300}]
Devices:
  - {PathOnHost: /dev/dri/renderD128, PathInContainer: /dev/dri/renderD128, CgroupPermissions: rwm}
DeviceRequests:
  - {Driver: cdi, Count: 1, DeviceIDs: [a, b], Capabilities: [[gpu, compute]], Options: {k: v}}
DeviceCgroupRules: ["c 1:3 mr"]
Ulimits: [{Name: nofile, Soft: 1, Hard: 2}]
`,
			exp: container.Resources{
				BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1 << 20}, {Path: "/dev/sdb", Rate: 100}},
				BlkioWeightDevice:  []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 300}},
				Devices:            []container.DeviceMapping{{PathOnHost: "/dev/dri/renderD128", PathInContainer: "/dev/dri/renderD128", CgroupPermissions: "rwm"}},
				DeviceRequests:     []container.DeviceRequest{{Driver: "cdi", Count: 1, DeviceIDs: []string{"a", "b"}, Capabilities: [][]string{{"gpu", "compute"}}, Options: map[string]string{"k": "v"}}},
				DeviceCgroupRules:  []string{"c 1:3 mr"},
				Ulimits:            []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
			},
			names: "BlkioDeviceReadBps BlkioWeightDevice Devices DeviceRequests DeviceCgroupRules Ulimits",
		},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			got, fields, err := parseResources([]byte(tc.content), false)
			assert.NilError(t, err)
			assert.Check(t, is.DeepEqual(got, tc.exp))
			var names []string
			for _, f := range fields {
				names = append(names, f.Name)
			}
			assert.Check(t, is.Equal(strings.Join(names, " "), tc.names))
		})
	}
}

func TestParseResourcesErrors(t *testing.T) {
	for _, tc := range []struct {
		doc, content, expErr string
		update               bool
	}{
		{doc: "empty", content: "", expErr: "names no resource"},
		{doc: "only a comment", content: "# nothing\n", expErr: "names no resource"},
		{doc: "empty mapping", content: "{}", expErr: "names no resource"},
		{doc: "only nulls", content: "Memory: null\n", expErr: "names no resource"},
		{doc: "list", content: "- Memory\n", expErr: `line 1: must be a list of KEY: VALUE, such as "Memory: 512m"`},
		{doc: "word", content: "\n512m\n", expErr: `line 2: must be a list of KEY: VALUE`},
		{doc: "two documents", content: "Memory: 1g\n---\nMemory: 2g\n", expErr: "has more than one YAML document"},
		{doc: "syntax", content: "Memory: [1\n", expErr: "yaml: line "},
		{doc: "unknown key", content: "Memory: 1g\nMemmory: 1g\n", expErr: `line 2: unknown key "Memmory"`},
		{doc: "other case", content: "memory: 1g\n", expErr: `line 1: unknown key "memory": did you mean Memory?`},
		{doc: "flag's name", content: "gpu-memory: 1g\n", expErr: `line 1: unknown key "gpu-memory"`},
		{doc: "nested unknown key", content: "Devices:\n- PathOnHost: /dev/null\n  Path: /dev/null\n", expErr: `line 3: Devices[0]: unknown key "Path"`},
		{doc: "duplicate key", content: "Memory: 1g\nCpuShares: 5\nMemory: 2g\n", expErr: "line 3: Memory is already set in line 1"},
		{doc: "duplicate key in json", content: "{\"Memory\": 1,\n\"Memory\": 2}", expErr: "line 2: Memory is already set in line 1"},
		{doc: "nested duplicate key", content: "Ulimits:\n- Name: a\n  Name: b\n", expErr: "line 3: Ulimits[0]: Name is already set in line 2"},
		{doc: "key is a number", content: "5: 1g\n", expErr: "line 1: a key must be a name"},
		{doc: "merge key", content: "<<: {Memory: 1g}\n", expErr: "line 1: a key must be a name"},
		{doc: "alias", content: "CpusetCpus: &a \"0\"\nCpusetMems: *a\n", expErr: "line 2: CpusetMems: aliases are not supported"},
		{doc: "string for a number", content: "\nCpuShares: \"512\"\n", expErr: `line 2: CpuShares: must be a whole number, not "512"`},
		{doc: "word for a number", content: "PidsLimit: many\n", expErr: `line 1: PidsLimit: must be a whole number, not "many"`},
		{doc: "fraction", content: "CpuShares: 1.5\n", expErr: `line 1: CpuShares: must be a whole number, not "1.5"`},
		{doc: "octal", content: "CpuShares: 0512\n", expErr: `line 1: CpuShares: must be a whole number, not "0512"`},
		{doc: "underscore", content: "Memory: 1_000\n", expErr: `line 1: Memory: must be a whole number, or a string such as "512m", not "1_000"`},
		{doc: "list for a number", content: "CpuShares: [1]\n", expErr: "line 1: CpuShares: must be a whole number, not a list"},
		{doc: "mapping for a size", content: "Memory: {a: 1}\n", expErr: `line 1: Memory: must be a whole number, or a string such as "512m", not a mapping`},
		{doc: "number for a list", content: "Devices: 5\n", expErr: `line 1: Devices: must be a list, not "5"`},
		{doc: "word for a mapping", content: "Devices: [/dev/null]\n", expErr: `line 1: Devices[0]: must be a mapping, not "/dev/null"`},
		{doc: "list for a map", content: "DeviceRequests: [{Options: [a]}]\n", expErr: `line 1: DeviceRequests[0].Options: must be a mapping, not a list`},
		{doc: "number for a string", content: "CpusetCpus: 0\n", expErr: `line 1: CpusetCpus: must be a string, write it as "0"`},
		{doc: "mapping for a string", content: "CpusetCpus: {}\n", expErr: "line 1: CpusetCpus: must be a string, not a mapping"},
		{doc: "word for a bool", content: "OomKillDisable: yes\n", expErr: `line 1: OomKillDisable: must be true or false, not "yes"`},
		{doc: "suffix where none is taken", content: "GPUPriority: 5k\n", expErr: `line 1: GPUPriority: must be a whole number, not "5k"`},
		{doc: "unknown suffix", content: "GPUMemory: 5q\n", expErr: `line 1: GPUMemory: invalid value "5q": must be 1 to 9223372036854775807 bytes`},
		{doc: "zero GPU memory", content: "CpuShares: 5\nGPUMemory: 0\n", expErr: `line 2: GPUMemory: invalid value "0": must be 1 to 9223372036854775807 bytes`},
		{doc: "priority out of range", content: "GPUPriority: 1025\n", expErr: `line 1: GPUPriority: invalid value "1025": must be a whole number from -1024 to 1024`},
		{doc: "negative memory", content: "Memory: -1\n", expErr: `line 1: Memory: invalid value "-1": `},
		{doc: "above int64", content: "CpuShares: 9223372036854775808\n", expErr: "line 1: CpuShares: 9223372036854775808 is out of range"},
		{doc: "above uint16", content: "BlkioWeight: 65536\n", expErr: "line 1: BlkioWeight: must be 0 to 65535, not 65536"},
		{doc: "negative unsigned", content: "IOMaximumIOps: -1\n", expErr: "line 1: IOMaximumIOps: must be 0 to 18446744073709551615, not -1"},
		{doc: "too slow a disk", content: "BlkioReadLimit: 1\n", expErr: `line 1: BlkioReadLimit: invalid value "1": must be 2 to 9223372036854775807 bytes per second`},
		{doc: "not a class", content: "NetClassID: [1]\n", expErr: `line 1: NetClassID: must be a whole number, or a string such as "10:1", not a list`},
		{doc: "class out of range", content: "NetClassID: \"10:10000\"\n", expErr: `line 1: NetClassID: invalid value "10:10000": must be MAJOR:MINOR`},
		{doc: "kernel memory", content: "KernelMemory: 1g\n", expErr: "line 1: KernelMemory is no longer supported: daemons ignore it"},
		{doc: "not updatable", update: true, content: "Memory: 1g\nDevices: []\n", expErr: "line 2: Devices cannot be changed in an existing container"},
		{doc: "zero in an update", update: true, content: "Memory: 1g\nCpuShares: 0\n", expErr: "line 2: CpuShares: 0 would change nothing"},
		{doc: "nothing in an update", update: true, content: "CpusetCpus: \"\"\n", expErr: "line 1: CpusetCpus:  would change nothing"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			_, _, err := parseResources([]byte(tc.content), tc.update)
			assert.Check(t, is.ErrorContains(err, tc.expErr))
		})
	}
}

func TestResourcesFileUnreadable(t *testing.T) {
	var f resourcesFile
	assert.Check(t, is.ErrorIs(f.Set(filepath.Join(t.TempDir(), "gone")), os.ErrNotExist))
	assert.Check(t, f.Set(t.TempDir()) != nil, "a directory")
	path := writeFile(t, "Memory: 1g\n#"+strings.Repeat(" ", maxResourcesFile))
	assert.Check(t, is.Error(f.Set(path), path+": more than 1048576 bytes"))
	path = writeFile(t, "Memory: 1q\n")
	assert.Check(t, is.ErrorContains(f.Set(path), path+": line 1: Memory: invalid value"))
	assert.Check(t, is.Len(f.fields, 0))
}

// TestResourcesFileOnRun checks that flags win, field by field.
func TestResourcesFileOnRun(t *testing.T) {
	path := writeFile(t, `
CpuShares: 512
Memory: 1g
PidsLimit: 100
MemorySwappiness: 10
OomKillDisable: true
GPUMemory: 4g
GPUPriority: 5
Ulimits: [{Name: nofile, Soft: 1, Hard: 2}]
Devices: [{PathOnHost: /dev/null, PathInContainer: /dev/null, CgroupPermissions: r}]
DeviceRequests: [{Count: -1, Capabilities: [[gpu]]}]
`)
	_, hostConfig, _, err := parseRun([]string{"--resources-file=" + path, "img", "cmd"})
	assert.NilError(t, err)
	yes, swappiness := true, int64(10)
	assert.Check(t, is.DeepEqual(hostConfig.Resources, container.Resources{
		BlkioWeightDevice:    []*blkiodev.WeightDevice{},
		BlkioDeviceReadBps:   []*blkiodev.ThrottleDevice{},
		BlkioDeviceReadIOps:  []*blkiodev.ThrottleDevice{},
		BlkioDeviceWriteBps:  []*blkiodev.ThrottleDevice{},
		BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{},
		CPUShares:            512, Memory: 1 << 30, PidsLimit: int64Ptr(100), MemorySwappiness: &swappiness, OomKillDisable: &yes,
		GPUMemory: int64Ptr(4 << 30), GPUPriority: int64Ptr(5),
		Ulimits:        []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
		Devices:        []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/null", CgroupPermissions: "r"}},
		DeviceRequests: []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}},
	}))

	_, hostConfig, _, err = parseRun([]string{
		"--cpu-shares=0", "--gpu-memory=-1", "--resources-file=" + path, "--pids-limit=7",
		"--device=/dev/zero", "--device=vendor.example/class=one", "--ulimit=nproc=5", "img", "cmd",
	})
	assert.NilError(t, err)
	assert.Check(t, is.Equal(hostConfig.CPUShares, int64(0)))
	assert.Check(t, is.DeepEqual(hostConfig.GPUMemory, int64Ptr(-1)))
	assert.Check(t, is.DeepEqual(hostConfig.PidsLimit, int64Ptr(7)))
	assert.Check(t, is.DeepEqual(hostConfig.GPUPriority, int64Ptr(5)))
	assert.Check(t, is.Equal(hostConfig.Memory, int64(1<<30)))
	assert.Check(t, is.Len(hostConfig.Ulimits, 1))
	assert.Check(t, is.Equal(hostConfig.Ulimits[0].Name, "nproc"))
	assert.Check(t, is.Len(hostConfig.Devices, 1))
	assert.Check(t, is.Equal(hostConfig.Devices[0].PathOnHost, "/dev/zero"))
	assert.Check(t, is.DeepEqual(hostConfig.DeviceRequests, []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"vendor.example/class=one"}}}))
}

func TestResourcesFileOnUpdate(t *testing.T) {
	path := writeFile(t, "CpuShares: 512\nGPUMemory: 4g\n")
	for name, newCommand := range updateCommands {
		apiClient := newUpdateClient()
		_, _, err := runUpdating(context.Background(), newCommand, apiClient, "--gpu-memory=8g", "--resources-file="+path, "--gpu-priority=1", "web")
		assert.NilError(t, err, name)
		assert.Check(t, is.DeepEqual(apiClient.configs, []container.UpdateConfig{{
			Resources: container.Resources{CPUShares: 512, GPUMemory: int64Ptr(8 << 30), GPUPriority: int64Ptr(1)},
		}}), name)

		apiClient = newUpdateClient()
		_, _, err = runUpdating(context.Background(), newCommand, apiClient, "--resources-file="+writeFile(t, "CgroupParent: /a\n"), "web")
		assert.Check(t, is.ErrorContains(err, "line 1: CgroupParent cannot be changed in an existing container"), name)
		assert.Check(t, is.Len(apiClient.calls, 0))
	}
	for name, newCommand := range limitCommands {
		cmd := newCommand(test.NewFakeCli(&fakeClient{}))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs([]string{"--resources-file=" + writeFile(t, "Memory: 1g\nmemory: 1g\n"), "img"})
		assert.Check(t, is.ErrorContains(cmd.Execute(), `line 2: unknown key "memory": did you mean Memory?`), name)
	}
}

func TestResourcesFileOfStandardInput(t *testing.T) {
	defer func(before *os.File) { stdin = before }(stdin)
	for content, expErr := range map[string]string{
		"PidsLimit: 100\n": "",
		"Pidslimit: 100\n": `standard input: line 1: unknown key "Pidslimit": did you mean PidsLimit?`,
		"":                 "standard input: names no resource",
	} {
		var err error
		stdin, err = os.Open(writeFile(t, content))
		assert.NilError(t, err)
		apiClient := newUpdateClient()
		_, _, err = runUpdating(context.Background(), newUpdateCommand, apiClient, "--resources-file", "-", "web")
		_ = stdin.Close()
		if expErr != "" {
			assert.Check(t, is.ErrorContains(err, expErr))
			continue
		}
		assert.NilError(t, err)
		assert.Check(t, is.DeepEqual(apiClient.configs, []container.UpdateConfig{{Resources: container.Resources{PidsLimit: int64Ptr(100)}}}))
	}
	// A file of that name still has a way.
	t.Chdir(t.TempDir())
	assert.NilError(t, os.WriteFile("-", []byte("PidsLimit: 5\n"), 0o600))
	var file resourcesFile
	assert.NilError(t, file.Set("./-"))
	assert.Check(t, is.DeepEqual(file.resources.PidsLimit, int64Ptr(5)))
}

// TestResourcesFileUnknownDaemon has limits in a file, where the annotations
// of flags cannot see them. Nothing may be sent.
func TestResourcesFileUnknownDaemon(t *testing.T) {
	path := writeFile(t, "CpuShares: 512\nGPUMemory: 4g\n")
	plain := writeFile(t, "CpuShares: 512\n")
	for _, tc := range []struct {
		doc, expErr string
		info        command.ServerInfo
	}{
		{doc: "stock daemon", info: command.ServerInfo{OSType: "linux"}, expErr: "GPUMemory in " + path + " is not supported by the Docker daemon (version 28.5.2), which cannot enforce it: use a dockerd that can"},
		{doc: "ping failed", info: command.ServerInfo{HasExperimental: true}, expErr: "GPUMemory in " + path + " needs a Docker daemon that supports it, and this one did not answer the ping"},
		{doc: "nothing enforced", info: command.ServerInfo{OSType: "linux", ResourceFeatures: types.ResourceFeatures{Known: true, Names: []string{"net-rate"}}}},
	} {
		for name, newCommand := range updateCommands {
			t.Run(tc.doc+" "+name, func(t *testing.T) {
				apiClient := newUpdateClient()
				cmd := newCommand(infoCli{test.NewFakeCli(apiClient), tc.info})
				cmd.SilenceErrors, cmd.SilenceUsage = true, true
				cmd.SetArgs([]string{"--resources-file=" + path, "web"})
				err := cmd.Execute()
				if tc.expErr == "" {
					assert.NilError(t, err)
					assert.Check(t, is.Len(apiClient.configs, 1))
					return
				}
				assert.Check(t, is.ErrorContains(err, tc.expErr))
				assert.Check(t, is.Len(apiClient.calls, 0))
			})
		}
		for name, newCommand := range limitCommands {
			for _, file := range []string{path, plain} {
				t.Run(fmt.Sprintf("%s %s plain=%v", tc.doc, name, file == plain), func(t *testing.T) {
					created := false
					apiClient := &createdClient{limitClient: limitClient{}, created: &created}
					cmd := newCommand(infoCli{test.NewFakeCli(apiClient), tc.info})
					cmd.SilenceErrors, cmd.SilenceUsage = true, true
					cmd.SetArgs(append(detachArgs(name), "--resources-file="+file, "img"))
					err := cmd.Execute()
					if tc.expErr == "" || file == plain {
						assert.NilError(t, err)
						assert.Check(t, created)
						return
					}
					var statusErr cli.StatusError
					assert.Assert(t, errors.As(err, &statusErr))
					assert.Check(t, is.Equal(statusErr.StatusCode, 125))
					assert.Check(t, is.Contains(err.Error(), tc.expErr))
					assert.Check(t, !created)
				})
			}
		}
	}
}

type infoCli struct {
	*test.FakeCli
	info command.ServerInfo
}

func (c infoCli) ServerInfo() command.ServerInfo { return c.info }

func (c infoCli) Client() client.APIClient { return askedClient{c.FakeCli.Client()} }

// askedClient knows GPU memory, cannot limit it, and does not answer a ping.
type askedClient struct{ client.APIClient }

func (askedClient) info() system.Info {
	return system.Info{ResourceLimits: []system.ResourceLimits{{Feature: "gpu-memory", Reason: "no controller"}}}
}

type createdClient struct {
	limitClient
	created *bool
}
