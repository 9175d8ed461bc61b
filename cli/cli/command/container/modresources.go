// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/command/completion"
	"github.com/docker/cli/cli/command/formatter"
	flagsHelper "github.com/docker/cli/cli/flags"
	"github.com/docker/cli/internal/lazyregexp"
	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type modresourcesOptions struct {
	update updateOptions

	containers opts.ListOpts
	dryRun     bool
	format     string
	partial    bool
	quiet      bool
	show       bool
}

func newModresourcesCommand(dockerCLI command.Cli) *cobra.Command {
	options := modresourcesOptions{containers: opts.NewListOpts(nil)}

	cmd := &cobra.Command{
		Use:   "modresources [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Change resource limits of one or more containers, all or nothing",
		Args: func(cmd *cobra.Command, args []string) error {
			return cli.RequiresMinArgs(1)(cmd, slices.Concat(options.containers.GetSlice(), args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			args = slices.Concat(options.containers.GetSlice(), args)
			return runModresources(cmd.Context(), dockerCLI, cmd.Flags(), &options, args)
		},
		Annotations: map[string]string{
			"aliases":  "docker container modresources, docker modresources",
			"resource": "",
		},
		ValidArgsFunction:     completion.ContainerNames(dockerCLI, false),
		DisableFlagsInUseLine: true,
	}

	flags := cmd.Flags()
	options.update.addResourceFlags(flags)
	flags.Var(&options.containers, "container", "Container to change, same as an argument")
	flags.BoolVar(&options.dryRun, "dry-run", false, "Show what would change, and change nothing")
	flags.StringVar(&options.format, "format", "", flagsHelper.FormatHelp)
	flags.BoolVar(&options.partial, "partial", false, "Keep going after an error, and keep what was changed")
	flags.BoolVarP(&options.quiet, "quiet", "q", false, "Only print the names of the containers")
	flags.BoolVar(&options.show, "show", false, "Print the limits of a container as a file for --resources-file")

	_ = cmd.RegisterFlagCompletionFunc("container", completion.ContainerNames(dockerCLI, false))
	addCurrentValueCompletions(cmd, dockerCLI, &options.containers)
	addLimitCompletions(cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		err = oneDash(cmd.Flags(), err)
		if cmd.HasParent() {
			return cmd.Parent().FlagErrorFunc()(cmd, err)
		}
		return err
	})
	return cmd
}

// The paper that the command is from writes long flags with one dash, which is a row of
// short ones here: "-container=X" is "-c" with a strange value.
var oneDashErrors = []*lazyregexp.Regexp{
	lazyregexp.New(`^invalid argument "(?P<rest>[a-z-]+)(?P<value>=.*|)" for "-(?P<first>.), --`),
	lazyregexp.New(`^unknown shorthand flag: '.' in -(?P<first>.)(?P<rest>[a-z-]+)(?P<value>=.*|)$`),
}

// oneDash makes an error that is easier to understand of one that flags gave for a
// long flag with one dash.
func oneDash(flags *pflag.FlagSet, err error) error {
	for _, syntax := range oneDashErrors {
		part := syntax.FindStringSubmatch(err.Error())
		if part == nil {
			continue
		}
		get := func(name string) string { return part[slices.Index(syntax.SubexpNames(), name)] }
		if name := get("first") + get("rest"); flags.Lookup(name) != nil {
			return fmt.Errorf("unknown flag: -%s: did you mean --%s%s, with two dashes?", name, name, get("value"))
		}
	}
	return err
}

func runModresources(ctx context.Context, dockerCLI command.Cli, flags *pflag.FlagSet, options *modresourcesOptions, containers []string) error {
	if options.show {
		return showResources(ctx, dockerCLI, flags, containers)
	}
	if options.quiet && options.format != "" {
		return errors.New("conflicting options: cannot specify both --quiet and --format")
	}
	wanted, fields, err := options.update.named()
	if err != nil {
		return err
	}
	if len(fields) == 0 {
		return errors.New("no resource is named: use one or more flags such as --memory, or --resources-file")
	}
	if err := options.update.limits.check(dockerCLI); err != nil {
		return err
	}

	// A fifth of the time for a hundred containers, to free a few megabytes.
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	m := &modresources{
		apiClient: dockerCLI.Client(),
		warnings:  dockerCLI.Err(),
		wanted:    wanted,
		fields:    fields,
	}
	defer context.AfterFunc(ctx, func() {
		m.warn("interrupted; waiting for the updates that are under way")
	})()
	err = m.run(ctx, dockerCLI.Out(), options, containers)
	if err != nil && ctx.Err() != nil {
		// The caller takes what a done context caused for no news, and prints nothing.
		m.warn(err)
		return context.Cause(ctx)
	}
	return err
}

func (m *modresources) run(ctx context.Context, out io.Writer, options *modresourcesOptions, containers []string) error {
	targets, missing := m.inspect(ctx, containers)
	if missing != nil && !options.partial {
		return missing
	}
	// A format that does not work must be known before anything is changed.
	if err := m.write(io.Discard, targets, options); err != nil {
		return err
	}
	err := missing
	switch {
	case options.dryRun:
	case options.partial:
		targets, err = m.updateEach(ctx, targets)
		err = errors.Join(missing, err)
	default:
		if err := m.updateAll(ctx, targets); err != nil {
			return err
		}
	}
	return errors.Join(m.write(out, targets, options), err)
}

// modresources is one change of resources, for any number of containers.
type modresources struct {
	apiClient client.APIClient
	warnings  io.Writer
	wanted    container.Resources
	fields    []resourceField // those that wanted names

	mu sync.Mutex // for warnings
}

func (m *modresources) warn(line any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _ = fmt.Fprintln(m.warnings, line)
}

// modresourcesTarget is a container and what it had before.
type modresourcesTarget struct {
	name string // as the user gave it
	id   string
	old  container.UpdateConfig

	// version is the ResourcesVersion of what is known of the container: of old,
	// and after the change of that. 0 is that of a daemon which does not count.
	version uint64
}

// atOnce is how many containers are worked on at the same time. The daemon
// waits for disks and for the kernel most of the time.
var atOnce = 32 // changed by tests

// each calls do for the numbers below n, some at the same time, and returns
// when all calls have returned. After a call that returned false it starts
// no further ones.
func each(n int, do func(i int) bool) {
	var (
		next    atomic.Int64
		stopped atomic.Bool
		workers sync.WaitGroup
	)
	for range min(n, atOnce) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for !stopped.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if !do(i) {
					stopped.Store(true)
				}
			}
		}()
	}
	workers.Wait()
}

// inspect looks up containers, each of them once even if it was given by
// several names. The error is of those that could not be inspected.
func (m *modresources) inspect(ctx context.Context, names []string) ([]modresourcesTarget, error) {
	var unique []string
	for i, name := range names {
		if !slices.Contains(names[:i], name) {
			unique = append(unique, name)
		}
	}
	if targets := m.inspectAtOnce(ctx, unique); targets != nil {
		return targets, nil
	}
	found := make([]modresourcesTarget, len(unique))
	errs := make([]error, len(unique))
	each(len(unique), func(i int) bool {
		name := unique[i]
		t, err := m.look(ctx, name)
		if err != nil {
			errs[i] = fmt.Errorf("%s: %w", name, err)
		}
		found[i] = t
		return true
	})
	return distinct(slices.DeleteFunc(found, func(t modresourcesTarget) bool { return t.id == "" })), errors.Join(errs...)
}

// inspected is what is needed of an inspected container; hostConfig is nil if the daemon
// did not send it.
type inspected struct {
	id         string
	hostConfig *container.HostConfig
	version    uint64
}

// look returns a container as it is now.
func (m *modresources) look(ctx context.Context, name string) (t modresourcesTarget, _ error) {
	ctr, err := inspectContainer(ctx, m.apiClient, name)
	if err != nil {
		return t, err
	}
	if ctr.hostConfig == nil {
		return t, errors.New("the daemon did not say which resources it has")
	}
	return modresourcesTarget{
		name:    name,
		id:      ctr.id,
		old:     container.UpdateConfig{Resources: ctr.hostConfig.Resources, RestartPolicy: ctr.hostConfig.RestartPolicy},
		version: ctr.version,
	}, nil
}

// distinct leaves out a container that is there under another name.
func distinct(targets []modresourcesTarget) (d []modresourcesTarget) {
	for _, t := range targets {
		if !slices.ContainsFunc(d, func(other modresourcesTarget) bool { return other.id == t.id }) {
			d = append(d, t)
		}
	}
	return d
}

// resourcesReader is a client that can look up several containers in one call.
type resourcesReader interface {
	ContainersResources(ctx context.Context, containers []string) ([]container.CurrentResources, error)
}

var _ resourcesReader = &client.Client{}

// inspectAtOnce returns nil if containers have to be looked up one by one: the
// daemon may be another, or one of them missing, and each is told of then.
func (m *modresources) inspectAtOnce(ctx context.Context, names []string) (targets []modresourcesTarget) {
	reader, ok := m.apiClient.(resourcesReader)
	if !ok || len(names) < 2 {
		return nil
	}
	found, err := reader.ContainersResources(ctx, names)
	if err != nil || len(found) != len(names) {
		return nil
	}
	for _, f := range found {
		if f.ID == "" {
			return nil
		}
		targets = append(targets, modresourcesTarget{name: f.Name, id: f.ID, old: f.UpdateConfig, version: f.ResourcesVersion})
	}
	return distinct(targets)
}

// optionsUpdater is a client that takes options with an update.
type optionsUpdater interface {
	ContainerUpdateWith(ctx context.Context, containerID string, updateConfig container.UpdateConfig, options container.UpdateOptions) (container.UpdateResponse, error)
}

var _ optionsUpdater = &client.Client{}

// send updates a container, with options if its daemon understands them.
func (m *modresources) send(ctx context.Context, t modresourcesTarget, config container.UpdateConfig, options container.UpdateOptions) (container.UpdateResponse, error) {
	if updater, ok := m.apiClient.(optionsUpdater); ok && t.version != 0 {
		return updater.ContainerUpdateWith(ctx, t.id, config, options)
	}
	return updateContainer(ctx, m.apiClient, t.id, config)
}

// update changes a container from what is known of it: if another client was faster
// it is looked at again, so that its values and not older ones are put back later. It
// is waited for even if ctx is done in the meantime: the daemon would not stop, and
// nobody would know how it ended.
func (m *modresources) update(ctx context.Context, t *modresourcesTarget) error {
	for {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: interrupted before it was changed", t.name)
		}
		resp, err := m.send(context.WithoutCancel(ctx), *t, container.UpdateConfig{Resources: m.wanted}, container.UpdateOptions{Version: t.version})
		for _, w := range resp.Warnings {
			m.warn(fmt.Sprintf("WARNING: %s: %s", t.name, w))
		}
		if err == nil {
			t.version = resp.ResourcesVersion
			return nil
		}
		if errdefs.IsConflict(err) {
			if now, lookErr := m.look(ctx, t.id); lookErr == nil && now.version != t.version {
				t.old, t.version = now.old, now.version
				continue
			}
		}
		return fmt.Errorf("%s: cannot change %s: %w", t.name, flagNames(m.fields), err)
	}
}

// updateEach changes what can be changed and returns the containers for which
// it worked, and the errors of the others.
func (m *modresources) updateEach(ctx context.Context, targets []modresourcesTarget) ([]modresourcesTarget, error) {
	errs := make([]error, len(targets))
	each(len(targets), func(i int) bool {
		errs[i] = m.update(ctx, &targets[i])
		return true
	})
	var done []modresourcesTarget
	for i, t := range targets {
		if errs[i] == nil {
			done = append(done, t)
		}
	}
	return done, errors.Join(errs...)
}

// updateAll changes all containers, or puts back those that it has changed and
// says so in the error.
func (m *modresources) updateAll(ctx context.Context, targets []modresourcesTarget) error {
	errs, begun := make([]error, len(targets)), make([]bool, len(targets))
	each(len(targets), func(i int) bool {
		if ctx.Err() != nil {
			return false
		}
		begun[i] = true
		errs[i] = m.update(ctx, &targets[i])
		return errs[i] == nil
	})
	failed := errors.Join(errs...)
	if ctx.Err() != nil {
		failed = errors.Join(errors.New("interrupted"), failed)
	}
	if failed == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // An interrupt is a reason to be here.
	var undo []modresourcesTarget
	for i, t := range targets {
		if !begun[i] {
			continue
		}
		if errs[i] != nil {
			changed, lookErr := m.changed(ctx, &t)
			if lookErr != nil {
				failed = fmt.Errorf("%w; whether %s was changed all the same is not known: %w", failed, t.name, lookErr)
			}
			if !changed {
				continue
			}
		}
		undo = append(undo, t)
	}
	return m.putBack(ctx, undo, failed)
}

// changed tells whether a container has the wanted values although its update
// has failed: the daemon may have done it and not lived to answer.
func (m *modresources) changed(ctx context.Context, t *modresourcesTarget) (bool, error) {
	now, err := m.look(ctx, t.id)
	if err != nil {
		return false, err
	}
	changed := false
	for _, f := range m.fields {
		switch f.text(&now.old.Resources) {
		case f.text(&t.old.Resources):
		case f.text(&m.wanted):
			changed = true
		default:
			return false, errChangedSince
		}
	}
	t.version = now.version
	return changed, nil
}

// putBack gives containers their old values and adds to reason what has come
// of it.
func (m *modresources) putBack(ctx context.Context, targets []modresourcesTarget, reason error) error {
	if len(targets) == 0 {
		return fmt.Errorf("%w; no container was changed", reason)
	}
	fails := make([]error, len(targets))
	each(len(targets), func(i int) bool {
		fails[i] = m.putBackOne(ctx, targets[i])
		return true
	})
	var (
		back []string
		errs = []error{reason}
	)
	for i, t := range targets {
		if errors.Is(fails[i], errChangedSince) {
			errs = append(errs, fmt.Errorf("%s: was not put back: %w", t.name, errChangedSince))
			continue
		}
		if fails[i] != nil {
			errs = append(errs, fmt.Errorf("%s: could not be put back, it may keep the new %s: %w", t.name, flagNames(m.fields), fails[i]))
			continue
		}
		back = append(back, t.name)
	}
	if len(back) > 0 {
		errs[0] = fmt.Errorf("%w; put back to the old values: %s", reason, strings.Join(back, ", "))
	}
	return errors.Join(errs...)
}

var errChangedSince = errors.New("another client has changed it since, and it keeps what that one set")

// putBackOne gives a container the old values of what was changed, and of nothing
// else, if it still has what was set here.
func (m *modresources) putBackOne(ctx context.Context, t modresourcesTarget) error {
	if t.version == 0 {
		return m.putBackPlain(ctx, t)
	}
	options := container.UpdateOptions{Version: t.version}
	for _, f := range m.fields {
		options.Replace = append(options.Replace, f.Name)
	}
	for {
		_, err := m.send(ctx, t, t.old, options)
		if !errdefs.IsConflict(err) {
			return err
		}
		now, lookErr := m.look(ctx, t.id)
		switch {
		case lookErr != nil || now.version == options.Version: // another conflict
			return err
		case slices.ContainsFunc(m.fields, func(f resourceField) bool { return f.text(&now.old.Resources) != f.text(&m.wanted) }):
			return errChangedSince
		}
		options.Version = now.version
	}
}

// putBackPlain is for a daemon that takes no options: it can set a value, but not
// take one off.
func (m *modresources) putBackPlain(ctx context.Context, t modresourcesTarget) error {
	var back container.Resources
	var unset []resourceField
	for _, f := range m.fields {
		if !f.isSet(&t.old.Resources) {
			unset = append(unset, f)
			continue
		}
		f.of(&back).Set(f.of(&t.old.Resources))
	}
	var errs []error
	if len(unset) > 0 {
		errs = append(errs, fmt.Errorf("this daemon has no way to take off %s, which was not set", flagNames(unset)))
	}
	if len(unset) < len(m.fields) {
		_, err := updateContainer(ctx, m.apiClient, t.id, container.UpdateConfig{Resources: back})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// write prints the containers or the table of changes.
func (m *modresources) write(w io.Writer, targets []modresourcesTarget, options *modresourcesOptions) error {
	if options.quiet {
		for _, t := range targets {
			if _, err := fmt.Fprintln(w, t.name); err != nil {
				return err
			}
		}
		return nil
	}
	if len(targets) == 0 && options.format == "" {
		return nil
	}
	var changes []resourceChange
	for _, t := range targets {
		for _, f := range m.fields {
			changes = append(changes, resourceChange{
				container: t.name,
				resource:  f.Flag,
				old:       f.text(&t.old.Resources),
				new:       f.text(&m.wanted),
			})
		}
	}
	return modresourcesFormatWrite(formatter.Context{Output: w, Format: newModresourcesFormat(options.format)}, changes)
}

// showResources prints the limits of one container as a resources file.
func showResources(ctx context.Context, dockerCLI command.Cli, flags *pflag.FlagSet, containers []string) error {
	var other []string
	flags.Visit(func(f *pflag.Flag) {
		if f.Name != "show" && f.Name != "container" {
			other = append(other, "--"+f.Name)
		}
	})
	if len(other) > 0 {
		return fmt.Errorf("conflicting options: cannot specify both --show and %s", strings.Join(other, ", "))
	}
	m := &modresources{apiClient: dockerCLI.Client()}
	targets, err := m.inspect(ctx, containers)
	if err != nil {
		return err
	}
	if len(targets) != 1 {
		return errors.New("--show takes one container")
	}
	return writeResources(dockerCLI.Out(), &targets[0].old.Resources)
}

// addCurrentValueCompletions offers, for the flag of each resource, the value
// that the container on the command line has, if it is a single one.
func addCurrentValueCompletions(cmd *cobra.Command, dockerCLI completion.APIClientProvider, containers *opts.ListOpts) {
	for _, f := range resourceFields {
		if f.Fixed {
			continue
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Flag, func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			values := slices.Clone(f.CompletionValues())
			args = slices.Concat(containers.GetSlice(), args)
			m := &modresources{apiClient: dockerCLI.Client()}
			// Not the number of args: completion parses the flags twice, and
			// a list has everything twice then.
			targets, err := m.inspect(cmd.Context(), args)
			if err != nil || len(targets) != 1 {
				return values, cobra.ShellCompDirectiveNoFileComp
			}
			current := f.text(&targets[0].old.Resources)
			if current != unsetResource && !slices.Contains(values, current) {
				values = append([]string{current}, values...)
			}
			return values, cobra.ShellCompDirectiveNoFileComp
		})
	}
}
