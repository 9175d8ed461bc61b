// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/command/completion"
	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// limitOptions are the resource limits that every command which creates or
// changes a container takes. A limit that was not given stays out of the
// request: a new container gets none, an existing one keeps what it has.
type limitOptions struct {
	values  []opts.LimitValue
	file    resourcesFile
	devices *deviceOptions // of an existing container

	flags *pflag.FlagSet
}

// deviceOptions are the limits of single disks. Upstream has their flags only
// for a new container.
type deviceOptions struct {
	weight                                 opts.WeightDevices
	readBps, writeBps, readIOps, writeIOps opts.ThrottleDevices
}

// limitAliases are other names of flags. They are not in the help, which names
// those that one is meant to know.
var limitAliases = func() map[string]string {
	aliases := map[string]string{}
	for _, f := range container.ResourceFields {
		for _, alias := range f.Aliases {
			aliases[alias] = f.Flag
		}
	}
	return aliases
}()

// acceptLimitAliases makes a set of flags take the aliases. It is one flag by
// two names, so that whether it was given is asked once, and the last one wins.
func acceptLimitAliases(flags *pflag.FlagSet) {
	normalize := flags.GetNormalizeFunc()
	flags.SetNormalizeFunc(func(flags *pflag.FlagSet, name string) pflag.NormalizedName {
		if flag, ok := limitAliases[name]; ok {
			name = flag
		}
		return normalize(flags, name)
	})
}

// addFlags adds one flag for each limit, and the one for a file with limits.
func (o *limitOptions) addFlags(flags *pflag.FlagSet) {
	o.flags = flags
	acceptLimitAliases(flags)
	o.values = nil
	for _, f := range container.ResourceFieldsOf("") {
		v := opts.NewLimitValue(f)
		o.values = append(o.values, v)
		flags.Var(v, f.Flag, f.Help)
		_ = flags.SetAnnotation(f.Flag, "resource", []string{f.Kind})
	}
	flags.Var(&o.file, "resources-file", "Read resource limits from a YAML or JSON file")
}

// addUpdateFlags adds the same flags for an existing container. It refuses a
// file with what only a new container can have.
func (o *limitOptions) addUpdateFlags(flags *pflag.FlagSet) {
	o.file.updateOnly = true
	o.addFlags(flags)
	o.devices = &deviceOptions{
		weight:    opts.NewWeightDevices(opts.ValidateWeightDevice),
		readBps:   opts.NewThrottleDevices(opts.ValidateThrottleBpsDevice),
		writeBps:  opts.NewThrottleDevices(opts.ValidateThrottleBpsDevice),
		readIOps:  opts.NewThrottleDevices(opts.ValidateThrottleIOpsDevice),
		writeIOps: opts.NewThrottleDevices(opts.ValidateThrottleIOpsDevice),
	}
	for name, v := range map[string]pflag.Value{
		"BlkioWeightDevice":    &o.devices.weight,
		"BlkioDeviceReadBps":   &o.devices.readBps,
		"BlkioDeviceReadIOps":  &o.devices.readIOps,
		"BlkioDeviceWriteBps":  &o.devices.writeBps,
		"BlkioDeviceWriteIOps": &o.devices.writeIOps,
	} {
		f := container.ResourceFieldNamed(name)
		flags.Var(v, f.Flag, f.Help)
		_ = flags.SetAnnotation(f.Flag, "resource", []string{f.UpdateKind})
	}
}

// apply puts the limits that were given into r, flags before the file. The
// rest of r, as far as it was given by flags, must be there already.
func (o *limitOptions) apply(r *container.Resources) {
	for _, v := range o.values {
		v.Apply(r)
	}
	if d := o.devices; d != nil {
		r.BlkioWeightDevice = d.weight.Value()
		r.BlkioDeviceReadBps = d.readBps.Value()
		r.BlkioDeviceWriteBps = d.writeBps.Value()
		r.BlkioDeviceReadIOps = d.readIOps.Value()
		r.BlkioDeviceWriteIOps = d.writeIOps.Value()
	}
	o.file.apply(r, o.flags)
}

// check comes before anything is sent. It returns an error if the file has a
// limit that the daemon would ignore; a flag is checked by its annotation.
func (o *limitOptions) check(dockerCLI command.Cli) error {
	o.warn(dockerCLI.Err())
	err := o.file.check(dockerCLI)
	if err != nil && !o.file.updateOnly {
		// What "run" and "create" exit with before there is a container.
		return cli.StatusError{Status: err.Error(), StatusCode: 125}
	}
	return err
}

// warn writes a line to w for each limit that is valid but probably a slip.
func (o *limitOptions) warn(w io.Writer) {
	for _, f := range container.ResourceFieldsOf("") {
		if v, ok := o.flags.Lookup(f.Flag).Value.(*opts.Limit); ok && v.LooksLikeMegabytes() {
			_, _ = fmt.Fprintf(w, "WARNING: --%s=%s is %s bytes, less than 1 MiB: did you mean %sm?\n", f.Flag, v, v, v)
		}
	}
}

// addLimitCompletions adds shell completion for the values of the limits. A
// flag that has one already keeps it.
func addLimitCompletions(cmd *cobra.Command) {
	for _, f := range container.ResourceFieldsOf("") {
		if values := f.CompletionValues(); values != nil {
			_ = cmd.RegisterFlagCompletionFunc(f.Flag, completion.FromList(values...))
		}
	}
	_ = cmd.RegisterFlagCompletionFunc("resources-file", fileNames)
}

// checkLimits verifies that the daemon has stored the limits it was asked for
// in a container that was just created. A daemon that does not know a limit
// drops it from the request and reports success, and a proxy may do the same;
// the container would then run without the limit. If that happens, or if it
// cannot be found out, the container is removed together with its anonymous
// volumes and an error is returned. Nothing is sent when no limit is wanted.
func checkLimits(ctx context.Context, apiClient client.APIClient, containerID string, wanted container.Resources) error {
	asked := differingLimits(wanted, container.Resources{})
	if len(asked) == 0 {
		return nil
	}
	var problem error
	ctr, err := inspectContainer(ctx, apiClient, containerID)
	switch {
	case err != nil:
		problem = fmt.Errorf("cannot check that the daemon accepted %s: %w", strings.Join(asked, ", "), err)
	default:
		var stored container.Resources
		if ctr.hostConfig != nil {
			stored = ctr.hostConfig.Resources
		}
		ignored := differingLimits(wanted, stored)
		if len(ignored) == 0 {
			return nil
		}
		problem = fmt.Errorf("the daemon%s ignored %s: use a dockerd that supports this limit", daemonVersion(ctx, apiClient), strings.Join(ignored, ", "))
	}
	// An interrupt is a reason to be here, and must not leave the container.
	err = removeWithVolumes(context.WithoutCancel(ctx), apiClient, containerID)
	if err != nil {
		return fmt.Errorf("%w; container %s could not be removed, remove it by hand: %w", problem, containerID, err)
	}
	return fmt.Errorf("%w; the container was removed", problem)
}

// differingLimits returns the limits in wanted, spelled as flags, that are not
// the same in stored.
func differingLimits(wanted, stored container.Resources) []string {
	var flags []string
	for _, f := range resourceFields {
		if f.Kind != "" && f.isSet(&wanted) && f.text(&wanted) != f.text(&stored) {
			flags = append(flags, "--"+f.Flag+"="+f.text(&wanted))
		}
	}
	return flags
}

func daemonVersion(ctx context.Context, apiClient client.APIClient) string {
	v, err := serverVersion(ctx, apiClient)
	if err != nil || v == "" {
		return ""
	}
	return " (version " + v + ")"
}
