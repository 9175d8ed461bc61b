// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// resourceAnnotation marks flags and commands that must not reach a daemon
// which does not know the resource limits behind them. Its value names the
// kind of limits, "" for any. Unlike upstream's annotations it fails closed: without an
// answer to the ping the flag is refused.
const resourceAnnotation = "resource"

// unsupportedResource returns the error, if any, of a flag that was given.
func unsupportedResource(f *pflag.Flag, details versionDetails) []error {
	var errs []error
	for _, feature := range f.Annotations[resourceAnnotation] {
		if err := command.CheckResource(details, fmt.Sprintf(`"--%s"`, f.Name), feature); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// checkResourceCommand is the same for curr, which is cmd or one of its
// parents. Help is shown whatever the daemon knows; `docker help COMMAND` comes
// here with flags that nobody has parsed.
func checkResourceCommand(cmd, curr *cobra.Command, details versionDetails) error {
	feature, ok := curr.Annotations[resourceAnnotation]
	if !ok || !cmd.Flags().Parsed() || cmd.Flags().Changed("help") {
		return nil
	}
	return command.CheckResource(details, cmd.CommandPath(), feature)
}

// noResourceFeatures returns a condition for hiding a flag or a command in
// help: a daemon that answered and does not know it. Without an answer nothing
// is hidden.
func noResourceFeatures(details versionDetails) func(string) bool {
	return func(string) bool {
		info := details.ServerInfo()
		return info.OSType != "" && !info.ResourceFeatures.Known
	}
}
