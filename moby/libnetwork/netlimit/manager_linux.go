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
	if err := changeRules(versions, func(id string) bool { return id == ep.ID }, rules); err != nil {
		return fmt.Errorf("classifying what goes out: %w", err)
	}
	if err := verifyRules(versions, ep.ID, rules); err != nil {
		return fmt.Errorf("the class of what goes out was not applied: %w", err)
	}
	return nil
}

func notApplied(err error) error {
	if err != nil {
		err = fmt.Errorf("the rate was not applied: %w", err)
	}
	return err
}

// Forget removes all that outlives the interface of an endpoint that is being
// deleted; what limits no packet any more, after it has returned.
func Forget(endpointID string) {
	mu.Lock()
	defer mu.Unlock()
	k, ok := known[endpointID]
	if !ok {
		return
	}
	delete(known, endpointID)
	logger := log.G(context.TODO()).WithField("endpoint", endpointID)
	if versions := k.mayHaveRules(); len(versions) != 0 {
		if err := changeRules(versions, func(id string) bool { return id == endpointID }, nil); err != nil {
			logger.WithError(err).Warn("the rules for the network class of an endpoint could not be removed")
		}
	}
	if k.mayHaveIfb() {
		// Nothing comes through it any more, and to take it down takes the
		// kernel some 20 ms. With a socket of its own, or
		// others would wait for the answer.
		nlh, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			logger.WithError(err).Warn("the ifb of an endpoint could not be removed")
			return
		}
		forgetting.Add(1)
		go func() {
			defer forgetting.Done()
			defer nlh.Close()
			w, err := look(nlh)
			if err == nil {
				err = delIfb(nlh, w, endpointID)
			}
			if err != nil {
				logger.WithError(err).Warn("the ifb of an endpoint could not be removed")
			}
		}()
	}
}

var forgetting sync.WaitGroup

// Wait returns when nothing is left of the endpoints that Forget was called for.
func Wait() {
	mu.Lock() // Forget adds with it.
	defer mu.Unlock()
	forgetting.Wait()
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
