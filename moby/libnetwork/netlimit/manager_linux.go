// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/log"
	"github.com/docker/docker/libnetwork/iptables"
	"github.com/docker/docker/libnetwork/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Limited is an endpoint and what it is limited to.
type Limited struct {
	Endpoint
	Settings
}

// mu serialises all changes, and guards known: the endpoints that have limits,
// or may have any, after an error.
var (
	mu    sync.Mutex
	known = map[string]knownLimits{}
)

type knownLimits struct {
	Limited
	uncertain bool
}

// mayHaveRules returns in which tables there may be rules of it.
func (k knownLimits) mayHaveRules() []iptables.IPVersion {
	if k.uncertain {
		return bothVersions
	}
	return versionsOf(classRules(k.Endpoint, k.Settings))
}

func (k knownLimits) mayHaveIfb() bool { return k.uncertain || k.Egress != 0 }

// handle is replaced by tests that work in a network namespace of their own.
var handle = func() *netlink.Handle { return ns.NlHandle().Handle }

// Error tells which limits of an endpoint may not be in force, and why. Other
// errors of this package are about all of them.
type Error struct {
	Ingress, Egress error // of the rates
	Class           error // of the class, or the priorities
}

func (e *Error) Error() string {
	var parts []string
	for _, err := range e.Unwrap() {
		parts = append(parts, err.Error())
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns those of the errors that are not nil.
func (e *Error) Unwrap() (errs []error) {
	for _, err := range []error{e.Ingress, e.Egress, e.Class} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Set makes s what the endpoint is limited to, whatever it was before, and
// reads it back from the kernel. After an error something in between may be in
// force: call it again with what was in force before. What can be set is set
// all the same.
func Set(ep Endpoint, s Settings) error {
	mu.Lock()
	defer mu.Unlock()
	return set(ep, s, known[ep.ID].mayHaveRules())
}

// set needs to be told where the endpoint may have rules that it should not have.
func set(ep Endpoint, s Settings, hasRules []iptables.IPVersion) error {
	nlh := handle()
	w, err := look(nlh)
	if err != nil {
		return err
	}
	// Whatever fails from here on, Forget has to look for all of it.
	known[ep.ID] = knownLimits{Limited{ep, s}, true}
	var e Error
	e.Ingress, e.Egress = setRates(nlh, w, ep.ID, s)
	if s.classifies() || len(hasRules) != 0 {
		e.Class = setClass(ep, s, hasRules)
	}
	if w, err = look(nlh); err != nil {
		return err
	}
	if e.Ingress == nil {
		e.Ingress = notApplied(verifyIngress(w, ep.ID, s.Ingress))
	}
	if e.Egress == nil {
		e.Egress = notApplied(verifyEgress(nlh, w, ep.ID, s.Egress))
	}
	if len(e.Unwrap()) != 0 {
		return &e
	}
	if s.IsZero() {
		delete(known, ep.ID)
	} else {
		known[ep.ID] = knownLimits{Limited{ep, s}, false}
	}
	return nil
}

func setClass(ep Endpoint, s Settings, hasRules []iptables.IPVersion) error {
	rules := classRules(ep, s)
	if s.classifies() && len(rules) == 0 {
		return errors.New("the endpoint has no address that its packets could be known by")
	}
	versions := versionsOf(rules)
	for _, version := range hasRules {
		if !slices.Contains(versions, version) {
			versions = append(versions, version)
		}
	}
	var err error
	for range 2 { // The first time may begin with what is no longer so.
		if err := changeRules(versions, func(id string) bool { return id == ep.ID }, rules); err != nil {
			return fmt.Errorf("classifying what goes out: %w", err)
		}
		if err = verifyRules(versions, ep.ID, rules); err == nil {
			return nil
		}
		clear(tables)
	}
	return fmt.Errorf("the class of what goes out was not applied: %w", err)
}

func notApplied(err error) error {
	if err != nil {
		err = fmt.Errorf("the rate was not applied: %w", err)
	}
	return err
}

// Begin does what [Set] does for a new endpoint, while its caller goes on to
// connect it. What it returns waits for the end. (It waits itself while another
// endpoint is being changed.)
func Begin(ep Endpoint, s Settings) (wait func() error) {
	mu.Lock()
	// Forget has to find it from now on.
	known[ep.ID] = knownLimits{Limited{ep, s}, true}
	mu.Unlock()
	done := make(chan error, 1)
	inBackground(func() {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := known[ep.ID]; !ok {
			done <- errors.New("the endpoint was deleted")
			return
		}
		done <- set(ep, s, nil)
	})
	return func() error { return <-done }
}

// inBackground is replaced by tests, whose thread is in another network.
var inBackground = func(f func()) { go f() }

// Forget removes all that outlives the interface of an endpoint that is being
// deleted. It returns before that is done, since the kernel takes some 10 ms for
// the rules and 20 ms for an ifb: see [Settle] and [Wait].
func Forget(endpointID string) {
	mu.Lock()
	k, ok := known[endpointID]
	delete(known, endpointID)
	mu.Unlock()
	if !ok {
		return
	}
	logger := log.G(context.TODO()).WithField("endpoint", endpointID)
	// With a socket of its own, or others would wait for the answer.
	nlh, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		logger.WithError(err).Warn("the ifb of an endpoint could not be removed")
	}
	forgetting.Lock()
	forgetting.rules.Add(1)
	forgetting.ifbs.Add(1)
	forgetting.Unlock()
	inBackground(func() {
		defer forgetting.ifbs.Done()
		if versions := k.mayHaveRules(); len(versions) != 0 {
			mu.Lock()
			err := changeRules(versions, func(id string) bool { return id == endpointID }, nil)
			mu.Unlock()
			if err != nil {
				logger.WithError(err).Warn("the rules for the network class of an endpoint could not be removed")
			}
		}
		forgetting.rules.Done()
		if nlh == nil {
			return
		}
		defer nlh.Close()
		if !k.mayHaveIfb() {
			return
		}
		w, err := look(nlh)
		if err == nil {
			err = delIfb(nlh, w, endpointID)
		}
		if err != nil {
			logger.WithError(err).Warn("the ifb of an endpoint could not be removed")
		}
	})
}

// forgetting counts what Forget has not removed yet. Its lock keeps one from
// being added while somebody waits for none.
var forgetting struct {
	sync.Mutex
	rules, ifbs sync.WaitGroup
}

// Settle returns when no rule is left of the endpoints that Forget was called
// for. Until then a new endpoint with the address of one of them is classified
// as that was, so its container must not run before.
func Settle() {
	forgetting.Lock()
	defer forgetting.Unlock()
	forgetting.rules.Wait()
}

// Wait returns when nothing at all is left of them.
func Wait() {
	forgetting.Lock()
	defer forgetting.Unlock()
	forgetting.ifbs.Wait()
}

// Sync is for a daemon that starts: it gives the endpoints of its running
// containers what limits they should have, which may be none, and removes ifbs
// and rules of endpoints that have no interface any more. Those that have one
// but are not in live belong to another daemon. It returns the errors of the
// endpoints in live, by ID.
func Sync(live []Limited) map[string]error {
	mu.Lock()
	defer mu.Unlock()
	errs := map[string]error{}
	w, err := look(handle())
	if err != nil {
		for _, l := range live {
			errs[l.ID] = err
		}
		return errs
	}
	hasRules := map[string][]iptables.IPVersion{}
	for _, version := range bothVersions {
		// No iptables, no rules.
		t, _ := readClassTable(version)
		for _, r := range t.rules {
			hasRules[r.endpoint] = bothVersions
		}
	}
	for _, l := range live {
		end := w.ends[l.ID]
		if l.IsZero() && hasRules[l.ID] == nil && w.ifbs[l.ID] == nil && (end == nil || w.tbf(end) == nil) {
			continue
		}
		if err := set(l.Endpoint, l.Settings, hasRules[l.ID]); err != nil {
			errs[l.ID] = err
		}
	}
	if err := sweep(); err != nil {
		log.G(context.TODO()).WithError(err).Warn("could not remove all network limits that were left over")
	}
	return errs
}

func sweep() error {
	nlh := handle()
	w, err := look(nlh)
	if err != nil {
		return err
	}
	var errs []error
	for id := range w.ifbs {
		if w.ends[id] == nil {
			errs = append(errs, delIfb(nlh, w, id))
		}
	}
	for _, version := range bothVersions {
		t, err := readClassTable(version)
		if err != nil {
			continue
		}
		stale := func(id string) bool { return w.ends[id] == nil }
		if t.chain && (len(t.rules) == 0 || slices.ContainsFunc(t.rules, func(r classRule) bool { return stale(r.endpoint) })) {
			errs = append(errs, changeRulesOf(version, stale, nil))
		}
	}
	return errors.Join(errs...)
}

// Replay puts the rules back that a reload of firewalld has thrown away. It
// returns the errors of the endpoints that stay without, by ID.
func Replay() map[string]error {
	mu.Lock()
	defer mu.Unlock()
	errs := map[string]error{}
	for id, l := range known {
		if !l.classifies() {
			continue
		}
		if err := setClass(l.Endpoint, l.Settings, l.mayHaveRules()); err != nil {
			errs[id] = &Error{Class: err}
		}
	}
	return errs
}
