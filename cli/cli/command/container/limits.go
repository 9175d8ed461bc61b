// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

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
}

// addFlags adds one flag for each limit.
func (o *limitOptions) addFlags(flags *pflag.FlagSet) {
	flags.Var(&o.gpuMemory, "gpu-memory", "GPU memory limit (-1 for no limit)")
	flags.Var(&o.gpuPriority, "gpu-priority", "GPU scheduling priority (-1024 to 1024)")
}

// apply puts the limits that were given into r.
func (o *limitOptions) apply(r *container.Resources) {
	r.GPUPriority = o.gpuPriority.Value()
	r.GPUMemory = o.gpuMemory.Value()
}

// warn writes a line to w for each limit that is valid but probably a slip.
func (o *limitOptions) warn(w io.Writer) {
	if o.gpuMemory.LooksLikeMegabytes() {
		n := o.gpuMemory.String()
		_, _ = fmt.Fprintf(w, "WARNING: --gpu-memory=%s is %s bytes, less than 1 MiB: did you mean %sm?\n", n, n, n)
	}
}

// addLimitCompletions adds shell completion for the values of the limits.
func addLimitCompletions(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("gpu-memory", completion.FromList("-1"))
	_ = cmd.RegisterFlagCompletionFunc("gpu-priority", completion.FromList("-1024", "-512", "0", "512", "1024"))
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
