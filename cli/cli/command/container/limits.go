// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"io"
	"strconv"
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
	gpuPriority opts.GPUPriority
	gpuMemory   opts.GPUMemory
	file        resourcesFile

	flags *pflag.FlagSet
}

// addFlags adds one flag for each limit, and the one for a file with limits.
func (o *limitOptions) addFlags(flags *pflag.FlagSet) {
	o.flags = flags
	flags.Var(&o.gpuMemory, "gpu-memory", "GPU memory limit (-1 for no limit)")
	flags.Var(&o.gpuPriority, "gpu-priority", "GPU scheduling priority (-1024 to 1024)")
	flags.Var(&o.file, "resources-file", "Read resource limits from a YAML or JSON file")
	for _, f := range resourceFields {
		if f.feature != "" {
			_ = flags.SetAnnotation(f.flag, "resource", []string{f.feature})
		}
	}
}

// addUpdateFlags adds the same flags for an existing container. It refuses a
// file with what only a new container can have.
func (o *limitOptions) addUpdateFlags(flags *pflag.FlagSet) {
	o.file.updateOnly = true
	o.addFlags(flags)
}

// apply puts the limits that were given into r, flags before the file. The
// rest of r, as far as it was given by flags, must be there already.
func (o *limitOptions) apply(r *container.Resources) {
	r.GPUPriority = o.gpuPriority.Value()
	r.GPUMemory = o.gpuMemory.Value()
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
	if o.gpuMemory.LooksLikeMegabytes() {
		n := o.gpuMemory.String()
		_, _ = fmt.Fprintf(w, "WARNING: --gpu-memory=%s is %s bytes, less than 1 MiB: did you mean %sm?\n", n, n, n)
	}
}

// limitValues are values to offer for a limit.
var limitValues = map[string][]string{
	"gpu-memory":   {"-1"},
	"gpu-priority": {"-1024", "-512", "0", "512", "1024"},
}

// addLimitCompletions adds shell completion for the values of the limits. A
// flag that has one already keeps it.
func addLimitCompletions(cmd *cobra.Command) {
	for flag, values := range limitValues {
		_ = cmd.RegisterFlagCompletionFunc(flag, completion.FromList(values...))
	}
	_ = cmd.RegisterFlagCompletionFunc("resources-file", completion.FileNames)
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
	ctr, err := apiClient.ContainerInspect(ctx, containerID)
	switch {
	case err != nil:
		problem = fmt.Errorf("cannot check that the daemon accepted %s: %w", strings.Join(asked, ", "), err)
	default:
		var stored container.Resources
		if ctr.ContainerJSONBase != nil && ctr.HostConfig != nil {
			stored = ctr.HostConfig.Resources
		}
		ignored := differingLimits(wanted, stored)
		if len(ignored) == 0 {
			return nil
		}
		problem = fmt.Errorf("the daemon%s ignored %s: use a dockerd that supports this limit", daemonVersion(ctx, apiClient), strings.Join(ignored, ", "))
	}
	// An interrupt is a reason to be here, and must not leave the container.
	err = apiClient.ContainerRemove(context.WithoutCancel(ctx), containerID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil {
		return fmt.Errorf("%w; container %s could not be removed, remove it by hand: %w", problem, containerID, err)
	}
	return fmt.Errorf("%w; the container was removed", problem)
}

// differingLimits returns the limits in wanted, spelled as flags, that are not
// the same in stored.
func differingLimits(wanted, stored container.Resources) []string {
	var flags []string
	for _, limit := range []struct {
		flag           string
		wanted, stored *int64
	}{
		{"--gpu-memory", wanted.GPUMemory, stored.GPUMemory},
		{"--gpu-priority", wanted.GPUPriority, stored.GPUPriority},
	} {
		if limit.wanted != nil && (limit.stored == nil || *limit.stored != *limit.wanted) {
			flags = append(flags, limit.flag+"="+strconv.FormatInt(*limit.wanted, 10))
		}
	}
	return flags
}

func daemonVersion(ctx context.Context, apiClient client.APIClient) string {
	v, err := apiClient.ServerVersion(ctx)
	if err != nil || v.Version == "" {
		return ""
	}
	return " (version " + v.Version + ")"
}
