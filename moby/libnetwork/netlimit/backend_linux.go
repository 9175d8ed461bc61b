// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"runtime"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// backend is what the class of a packet is looked up in: tables of one owner. nft is
// one, and sends packets to ifbs and refuses forged sources as well. A kernel without
// nf_tables gets an iptables, which can do the first alone; see filters for the rest.
type backend interface {
	fmt.Stringer
	// read returns what the kernel has.
	read() (*tables, error)
	// change brings the tables from what is to what should be and returns what is then.
	// Where is turns out not to be so, it fails.
	change(is, should *tables) (*tables, error)
	// missing returns what says of each kind what e should have of it and has not.
	missing(is, should *tables, e *endpoint) func(kind string) error
	// stale tells whether somebody else has changed what was read, as far as the kernel
	// tells no one of it.
	stale(is *tables) bool
	// owners are those of all tables of this kind in the network namespace.
	owners() ([]string, error)
	// of is the same for another owner.
	of(owner string) backend
	// redirectsTo tells whether packets are sent to an ifb.
	redirectsTo(ifb int) (bool, error)
	close()
}

// openBackend decides once which one it is.
func openBackend(ns netns.NsHandle, owner string, w *watcher) (backend, error) {
	n := &nft{nftConn: &nftConn{netns: int(ns), option: w.notePort}, owner: owner}
	err := n.open()
	if err == nil {
		if _, err = n.conn.ListTablesOfFamily(families[0]); err == nil {
			return n, nil
		}
		n.close()
	}
	if !lacksNft(err) {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	i, err2 := openIptables(ns, owner)
	if err2 != nil {
		return nil, fmt.Errorf("the kernel has no nf_tables (%w), and instead of it: %w", err, err2)
	}
	return i, nil
}

// lacksNft tells whether an error of nf_tables is that of a kernel without.
func lacksNft(err error) bool {
	for _, e := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// inNetNS calls f on a thread that is in a network namespace. (The netlink library can
// do so itself, and then crashes where there is no socket to be had.)
func inNetNS(ns int, f func() error) error {
	runtime.LockOSThread()
	old, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer old.Close()
	if old.Equal(netns.NsHandle(ns)) {
		defer runtime.UnlockOSThread()
		return f()
	}
	if err := netns.Set(netns.NsHandle(ns)); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = f()
	if back := netns.Set(old); back != nil {
		return errors.Join(err, back) // the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

func dialNetlink(family, ns int) (c *mdnetlink.Conn, err error) {
	err = inNetNS(ns, func() (err error) {
		c, err = mdnetlink.Dial(family, nil)
		return err
	})
	return c, err
}
