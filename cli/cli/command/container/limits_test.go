// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/internal/test"
	"github.com/docker/docker/api/types/container"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func int64Ptr(n int64) *int64 { return &n }

var limitCommands = map[string]func(command.Cli) *cobra.Command{
	"run":    newRunCommand,
	"create": newCreateCommand,
}

func TestParseLimits(t *testing.T) {
	for _, tc := range []struct {
		args          []string
		priority, mem *int64
	}{
		{args: nil},
		{args: []string{"--gpu-priority=50", "--gpu-memory=10240"}, priority: int64Ptr(50), mem: int64Ptr(10240)},
		{args: []string{"--gpu-priority=0"}, priority: int64Ptr(0)},
		{args: []string{"--gpu-priority", "-1024"}, priority: int64Ptr(-1024)},
		{args: []string{"--gpu-memory", "-1"}, mem: int64Ptr(-1)},
		{args: []string{"--gpu-memory=10g"}, mem: int64Ptr(10 << 30)},
		{args: []string{"--gpu-memory=1g", "--gpu-memory=2g"}, mem: int64Ptr(2 << 30)},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			_, hostConfig, _, err := parseRun(append(tc.args, "img", "cmd"))
			assert.NilError(t, err)
			assert.Check(t, is.DeepEqual(hostConfig.GPUPriority, tc.priority))
			assert.Check(t, is.DeepEqual(hostConfig.GPUMemory, tc.mem))
		})
	}
}

func uint32Ptr(n uint32) *uint32 { return &n }

func TestParseOtherLimits(t *testing.T) {
	for _, tc := range []struct {
		args string
		exp  container.Resources
	}{
		{args: "--blkio-read-limit=40m", exp: container.Resources{BlkioReadLimit: int64Ptr(40 << 20)}},
		{args: "--blkio-read-bps=40m", exp: container.Resources{BlkioReadLimit: int64Ptr(40 << 20)}},
		{args: "--blkio-reed-limit=40m", exp: container.Resources{BlkioReadLimit: int64Ptr(40 << 20)}},
		{args: "--blkio-read-limit=1m --blkio-read-bps=2m", exp: container.Resources{BlkioReadLimit: int64Ptr(2 << 20)}},
		{args: "--blkio-write-limit=-1", exp: container.Resources{BlkioWriteLimit: int64Ptr(-1)}},
		{args: "--blkio-write-bps=2", exp: container.Resources{BlkioWriteLimit: int64Ptr(2)}},
		{args: "--blkio-read-iops-limit=2", exp: container.Resources{BlkioReadIOpsLimit: int64Ptr(2)}},
		{args: "--blkio-read-iops=4294967294", exp: container.Resources{BlkioReadIOpsLimit: int64Ptr(1<<32 - 2)}},
		{args: "--blkio-write-iops-limit=300", exp: container.Resources{BlkioWriteIOpsLimit: int64Ptr(300)}},
		{args: "--blkio-write-iops=-1", exp: container.Resources{BlkioWriteIOpsLimit: int64Ptr(-1)}},
		{args: "--net-classid=10:1", exp: container.Resources{NetClassID: uint32Ptr(0x100001)}},
		{args: "--net-classid=0", exp: container.Resources{NetClassID: uint32Ptr(0)}},
		{args: "--net-prio=eth0:5 --net-prio=eth1:0x100003 --net-prio=eth0:6", exp: container.Resources{
			NetPriorities: []container.NetPriority{{Interface: "eth0", Priority: 6}, {Interface: "eth1", Priority: 0x100003}},
		}},
		{args: "--net-egress-pps=20000 --net-ingress-pps=-1", exp: container.Resources{NetEgressPPS: int64Ptr(20000), NetIngressPPS: int64Ptr(-1)}},
		{args: "--net-egress-rate=20mbit --net-ingress-rate=-1", exp: container.Resources{NetEgressRate: int64Ptr(20e6), NetIngressRate: int64Ptr(-1)}},
	} {
		t.Run(tc.args, func(t *testing.T) {
			_, hostConfig, _, err := parseRun(append(strings.Fields(tc.args), "img", "cmd"))
			assert.NilError(t, err)
			got := container.Resources{
				BlkioReadLimit: hostConfig.BlkioReadLimit, BlkioWriteLimit: hostConfig.BlkioWriteLimit,
				BlkioReadIOpsLimit: hostConfig.BlkioReadIOpsLimit, BlkioWriteIOpsLimit: hostConfig.BlkioWriteIOpsLimit,
				NetClassID: hostConfig.NetClassID, NetPriorities: hostConfig.NetPriorities,
				NetEgressRate: hostConfig.NetEgressRate, NetIngressRate: hostConfig.NetIngressRate,
				NetEgressPPS: hostConfig.NetEgressPPS, NetIngressPPS: hostConfig.NetIngressPPS,
			}
			assert.Check(t, is.DeepEqual(got, tc.exp))
		})
	}
}

// TestLimitAliases checks that an alias is the flag itself on every command.
func TestLimitAliases(t *testing.T) {
	for name, newCommand := range map[string]func(command.Cli) *cobra.Command{
		"run": newRunCommand, "create": newCreateCommand, "update": newUpdateCommand, "modresources": newModresourcesCommand,
	} {
		flags := newCommand(test.NewFakeCli(&fakeClient{})).Flags()
		for alias, flag := range limitAliases {
			f := flags.Lookup(alias)
			assert.Assert(t, f != nil, "%s --%s", name, alias)
			assert.Check(t, is.Equal(f.Name, flag), "%s --%s", name, alias)
			assert.Check(t, !strings.Contains(flags.FlagUsages(), "--"+alias+" "), "%s --%s is in the help", name, alias)
		}
	}
}

func TestLimitFlagErrors(t *testing.T) {
	const (
		priorityRange = "must be a whole number from -1024 to 1024 (0 is the default, a higher one gets a larger share)"
		bpsRange      = "must be 2 to 9223372036854775807 bytes per second (a suffix b, k, m, g or t is allowed), or -1 for no limit"
		iopsRange     = "must be 2 to 4294967294 operations per second, or -1 for no limit"
		memoryRange   = "must be 1 to 9223372036854775807 bytes (a suffix b, k, m, g or t is allowed), or -1 for no limit"
	)
	for _, tc := range []struct {
		flag, want string
		values     []string
	}{
		{flag: "--gpu-priority", want: priorityRange, values: []string{"1025", "-1025", "abc", ""}},
		{flag: "--blkio-read-limit", want: bpsRange, values: []string{"0", "1", "-2", "1q", "9223372036854775808", ""}},
		{flag: "--blkio-write-limit", want: bpsRange, values: []string{"1"}},
		{flag: "--blkio-read-iops-limit", want: iopsRange, values: []string{"0", "1", "-2", "1k", "4294967296", ""}},
		{flag: "--blkio-write-iops-limit", want: iopsRange, values: []string{"1"}},
		{flag: "--gpu-memory", want: memoryRange, values: []string{"0", "-5", "1q", "9223372036854775808", "", "1e30", "10.5.5m"}},
	} {
		for name, newCommand := range limitCommands {
			for _, value := range tc.values {
				t.Run(name+" "+tc.flag+"="+value, func(t *testing.T) {
					cmd := newCommand(test.NewFakeCli(fakeCreating(func() { t.Error("the container was created") })))
					cmd.SetFlagErrorFunc(cli.FlagErrorFunc)
					cmd.SilenceErrors, cmd.SilenceUsage = true, true
					cmd.SetArgs([]string{tc.flag + "=" + value, "img"})

					var statusErr cli.StatusError
					assert.Assert(t, errors.As(cmd.Execute(), &statusErr))
					assert.Check(t, is.Equal(statusErr.StatusCode, 125))
					line, _, _ := strings.Cut(statusErr.Error(), "\n")
					assert.Check(t, is.Equal(line, `invalid argument "`+value+`" for "`+tc.flag+`" flag: `+tc.want))
				})
			}
		}
	}
}

func TestLimitWarnings(t *testing.T) {
	const warning = "WARNING: --gpu-memory=10240 is 10240 bytes, less than 1 MiB: did you mean 10240m?\n"
	for name, newCommand := range limitCommands {
		for value, want := range map[string]string{"10240": warning, "10240b": "", "10240m": "", "-1": ""} {
			t.Run(name+" "+value, func(t *testing.T) {
				fakeCLI := test.NewFakeCli(&limitClient{})
				cmd := newCommand(fakeCLI)
				cmd.SetOut(io.Discard)
				cmd.SetArgs(append(detachArgs(name), "--gpu-memory="+value, "img"))
				assert.NilError(t, cmd.Execute())
				assert.Check(t, is.Equal(fakeCLI.ErrBuffer().String(), want))
			})
		}
	}
}

// limitClient is a daemon that stores what it is asked for, changed by forget.
type limitClient struct {
	fakeClient
	forget     func(*container.Resources)
	inspectErr error
	removeErr  error
	afterInsp  func()

	stored    container.Resources
	inspected []string
	removed   []string
	started   []string
}

func (c *limitClient) create(hostConfig *container.HostConfig) (id string) {
	c.stored = hostConfig.Resources
	if c.forget != nil {
		c.forget(&c.stored)
	}
	return "abcdef"
}

func (c *limitClient) inspect(id string) (inspected, error) {
	c.inspected = append(c.inspected, id)
	if c.afterInsp != nil {
		c.afterInsp()
	}
	if c.inspectErr != nil {
		return inspected{}, c.inspectErr
	}
	return inspected{id: id, hostConfig: &container.HostConfig{Resources: c.stored}}, nil
}

func (c *limitClient) remove(ctx context.Context, id string, all bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if all {
		c.removed = append(c.removed, id)
	}
	return c.removeErr
}

// ClientVersion is one from which on "run" waits without reading events.
func (*limitClient) ClientVersion() string { return "1.51" }

// detachArgs keeps "run" from attaching, which the fake client cannot do.
func detachArgs(commandName string) []string {
	if commandName == "run" {
		return []string{"--detach"}
	}
	return nil
}

func TestCheckLimits(t *testing.T) {
	for _, tc := range []struct {
		name       string
		args       []string
		forget     func(*container.Resources)
		inspectErr error
		removeErr  error
		inspected  bool
		expErr     string
	}{
		{
			name:       "no limit asked",
			inspectErr: errors.New("must not be asked"),
		},
		{
			name:      "stored",
			args:      []string{"--gpu-priority=0", "--gpu-memory=10240b"},
			inspected: true,
		},
		{
			name:      "no limit stored",
			args:      []string{"--gpu-memory=-1"},
			inspected: true,
		},
		{
			name: "both missing",
			args: []string{"--gpu-priority=0", "--gpu-memory=1g"},
			forget: func(r *container.Resources) {
				*r = container.Resources{}
			},
			inspected: true,
			expErr:    "the daemon (version 28.5.2) ignored --gpu-memory=1073741824, --gpu-priority=0: use a dockerd that supports this limit; the container was removed",
		},
		{
			name: "one missing",
			args: []string{"--gpu-priority=50", "--gpu-memory=1g"},
			forget: func(r *container.Resources) {
				r.GPUPriority = nil
			},
			inspected: true,
			expErr:    "the daemon (version 28.5.2) ignored --gpu-priority=50: use a dockerd that supports this limit; the container was removed",
		},
		{
			name: "other value",
			args: []string{"--gpu-memory=10240b"},
			forget: func(r *container.Resources) {
				r.GPUMemory = int64Ptr(12288)
			},
			inspected: true,
			expErr:    "the daemon (version 28.5.2) ignored --gpu-memory=10240: use a dockerd that supports this limit; the container was removed",
		},
		{
			name:      "others stored",
			args:      []string{"--blkio-read-limit=1m", "--net-classid=10:1", "--net-prio=eth0:5", "--net-egress-rate=1mbit"},
			inspected: true,
		},
		{
			name:      "others missing",
			args:      []string{"--blkio-read-limit=1m", "--net-classid=10:1", "--net-prio=eth0:5", "--net-prio=eth1:6", "--net-egress-rate=1mbit"},
			forget:    func(r *container.Resources) { *r = container.Resources{} },
			inspected: true,
			expErr:    "the daemon (version 28.5.2) ignored --blkio-read-limit=1048576, --net-classid=10:1, --net-egress-rate=1000000, --net-prio=eth0:5,eth1:6: use a dockerd that supports this limit; the container was removed",
		},
		{
			name:       "inspect fails",
			args:       []string{"--gpu-priority=50"},
			inspectErr: errors.New("connection lost"),
			inspected:  true,
			expErr:     "cannot check that the daemon accepted --gpu-priority=50: connection lost; the container was removed",
		},
		{
			name:      "removal fails",
			args:      []string{"--gpu-priority=50"},
			forget:    func(r *container.Resources) { *r = container.Resources{} },
			removeErr: errors.New("device busy"),
			inspected: true,
			expErr:    "the daemon (version 28.5.2) ignored --gpu-priority=50: use a dockerd that supports this limit; container abcdef could not be removed, remove it by hand: device busy",
		},
	} {
		for name, newCommand := range limitCommands {
			t.Run(name+" "+tc.name, func(t *testing.T) {
				apiClient := &limitClient{forget: tc.forget, inspectErr: tc.inspectErr, removeErr: tc.removeErr}
				fakeCLI := test.NewFakeCli(apiClient)
				cidFile := filepath.Join(t.TempDir(), "cid")
				cmd := newCommand(fakeCLI)
				cmd.SilenceErrors, cmd.SilenceUsage = true, true
				cmd.SetArgs(append(append(detachArgs(name), "--cidfile="+cidFile), append(tc.args, "img")...))
				err := cmd.Execute()

				assert.Check(t, is.Equal(len(apiClient.inspected) == 1, tc.inspected))
				if tc.expErr == "" {
					assert.NilError(t, err)
					assert.Check(t, is.Len(apiClient.removed, 0))
					assert.Check(t, is.Equal(len(apiClient.started) == 1, name == "run"))
					assert.Check(t, is.Equal(fakeCLI.OutBuffer().String(), "abcdef\n"))
					return
				}
				assert.Check(t, is.ErrorContains(err, tc.expErr))
				assert.Check(t, is.DeepEqual(apiClient.removed, []string{"abcdef"}))
				assert.Check(t, is.Len(apiClient.started, 0))
				assert.Check(t, is.Equal(fakeCLI.OutBuffer().String(), ""))
				_, err = os.Stat(cidFile)
				assert.Check(t, is.ErrorIs(err, os.ErrNotExist))
			})
		}
	}
}

func TestCheckLimitsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	apiClient := &limitClient{afterInsp: cancel, inspectErr: context.Canceled}
	err := checkLimits(ctx, apiClient, "abcdef", container.Resources{GPUPriority: int64Ptr(1)})
	assert.Check(t, is.ErrorIs(err, context.Canceled))
	assert.Check(t, is.DeepEqual(apiClient.removed, []string{"abcdef"}))
}

func TestCheckLimitsEmptyInspect(t *testing.T) {
	apiClient := &emptyInspectClient{}
	err := checkLimits(context.Background(), apiClient, "abcdef", container.Resources{GPUPriority: int64Ptr(1)})
	assert.Check(t, is.ErrorContains(err, "ignored --gpu-priority=1"))
	assert.Check(t, is.DeepEqual(apiClient.removed, []string{"abcdef"}))
}

type emptyInspectClient struct{ limitClient }

func TestCompleteLimits(t *testing.T) {
	for name, newCommand := range map[string]func(command.Cli) *cobra.Command{
		"run": newRunCommand, "create": newCreateCommand, "update": newUpdateCommand, "modresources": newModresourcesCommand,
	} {
		cmd := newCommand(test.NewFakeCli(&fakeClient{}))
		files, ok := cmd.GetFlagCompletionFunc("resources-file")
		assert.Assert(t, ok, name)
		_, directive := files(cmd, nil, "")
		assert.Check(t, is.Equal(directive, cobra.ShellCompDirectiveDefault), name)
		for flag, want := range map[string][]string{
			"blkio-read-limit": {"-1"},
			"gpu-memory":       {"-1"},
			"gpu-priority":     {"-1024", "-512", "0", "512", "1024"},
			"net-classid":      {"0"},
			"net-egress-rate":  {"-1"},
			"net-ingress-pps":  {"-1"},
		} {
			complete, ok := cmd.GetFlagCompletionFunc(flag)
			assert.Assert(t, ok, name+" "+flag)
			values, directive := complete(cmd, nil, "")
			assert.Check(t, is.DeepEqual(values, want))
			assert.Check(t, is.Equal(directive, cobra.ShellCompDirectiveNoFileComp))
			for _, value := range values {
				assert.Check(t, cmd.Flags().Set(flag, value), "a suggested value must be valid")
			}
		}
	}
}

// TestLimitFlagsWrittenByHand finds limits that were left out of the files
// which list the flags and are not generated.
func TestLimitFlagsWrittenByHand(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(limitOptions).addFlags(flags)
	fish := func(command string) string { return "__fish_seen_subcommand_from " + command + "' -l % " }
	for path, patterns := range map[string][]string{
		"contrib/completion/bash/docker":                 {"\t\t--%\n"},
		"contrib/completion/zsh/_docker":                 {"--%=["},
		"contrib/completion/fish/docker.fish":            {fish("run"), fish("create"), fish("update"), fish("modresources")},
		"man/docker-run.1.md":                            {"\n**--%**="},
		"docs/reference/run.md":                          {"`--%="},
		"docs/reference/commandline/container_run.md":    {`<a name="%"></a>`},
		"docs/reference/commandline/container_create.md": {"`--%`"},
	} {
		content, err := os.ReadFile(filepath.Join("..", "..", "..", filepath.FromSlash(path)))
		assert.NilError(t, err)
		flags.VisitAll(func(f *pflag.Flag) {
			for _, pattern := range patterns {
				entry := strings.ReplaceAll(pattern, "%", f.Name)
				assert.Check(t, strings.Contains(string(content), entry), "%s: no entry %q", path, entry)
			}
		})
	}
}
