// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// packetRate sends frames of 64 bytes one way for a time, as fast as it goes, and
// returns how many came, and how long the sender had to wait for a processor: beyond
// what a bucket that fills in a time saves up.
func packetRate(t *testing.T, from, to *netns.NS, addr string, d, bucket time.Duration) (came int, lost time.Duration) {
	t.Helper()
	var l net.PacketConn
	assert.NilError(t, to.Do(func() (err error) { l, err = net.ListenPacket("udp4", addr+":9"); return err }))
	defer l.Close()
	raw, err := l.(*net.UDPConn).SyscallConn()
	assert.NilError(t, err)
	assert.NilError(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) }))
	assert.NilError(t, err)
	done := make(chan int)
	go func() {
		n, buf := 0, make([]byte, 100)
		for {
			if _, _, err := l.ReadFrom(buf); err != nil {
				done <- n
				return
			}
			n++
		}
	}()
	assert.NilError(t, from.Do(func() error {
		c, err := net.Dial("udp4", addr+":9")
		if err != nil {
			return err
		}
		defer c.Close()
		last := time.Now()
		for end := last.Add(d); last.Before(end); {
			_, _ = c.Write(make([]byte, 22)) // What is dropped on the sender's way is an error here.
			now := time.Now()
			lost += max(now.Sub(last)-bucket, 0)
			last = now
		}
		return nil
	}))
	assert.NilError(t, l.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
	return <-done, lost
}

// packetBox is a container on the bridge that packets are sent to and from.
type packetBox struct {
	host, inside  *netns.NS
	addr, gateway string
}

func newPacketBox(t *testing.T, h netHost, d *daemon.Daemon, name string) packetBox {
	t.Helper()
	return packetBox{h.NS, nsOf(t, d, name), addrOf(t, d, name, "bridge"), d.Must(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")}
}

// wantPackets compares the first second after whatever was before with a rate: at most
// the rate and one bucket of 20 ms, 5 at least. 0 is no limit.
func (b packetBox) wantPackets(t *testing.T, out bool, rate int) {
	t.Helper()
	from, to, addr := b.host, b.inside, b.addr
	if out {
		from, to, addr = b.inside, b.host, b.gateway
	}
	burst := max(rate/50, 5)
	came, lost := packetRate(t, from, to, addr, time.Second, time.Duration(burst)*time.Second/time.Duration(max(rate, 1)))
	t.Logf("from the container %t: %d came, want %d; without a processor for %s", out, came, rate, lost)
	if rate == 0 {
		assert.Check(t, came > 2000, "%d packets came in a second, want no limit", came) // The limits here are below that.
		return
	}
	most := float64(rate)*1.01 + float64(burst) + 1
	least := float64(rate)*0.9*(1-lost.Seconds()) - float64(burst)
	assert.Check(t, float64(came) <= most && float64(came) >= least, "%d packets came in a second, want %.0f to %.0f", came, least, most)
}

// Packets of both ways have their rate, live, beside a rate in bits, after another
// program took it away and over a kill of dockerd; others have none.
func TestNetPacketRatesHold(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d, err := daemon.StartIn(h.NS, netArgs...)
	assert.NilError(t, err)
	daemon.Until(t, d)
	d.Must(t, "run", "--rm", "busybox", "true")
	clean := h.leftovers(t)
	d.Must(t, "run", "-d", "--name=c1", "--net-egress-pps=500", "--net-ingress-pps=1000", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=free", "busybox", "sleep", "inf")
	c1, free := newPacketBox(t, h, d, "c1"), newPacketBox(t, h, d, "free")
	c1.wantPackets(t, true, 500)
	c1.wantPackets(t, false, 1000)
	free.wantPackets(t, true, 0)
	free.wantPackets(t, false, 0)

	shown := func(want string) {
		t.Helper()
		assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.NetEgressPPS}} {{.HostConfig.NetIngressPPS}} {{range .NetLimitEndpoints}}{{.EgressPPS}} {{.IngressPPS}} {{.EgressRate}}{{end}}", "c1"), want)
	}
	shown("500 1000 500 1000 0")
	// Across a change, which may give one more bucket: both ways are sent to all the time.
	changed := make(chan time.Duration)
	begin := time.Now()
	go func() {
		time.Sleep(time.Second)
		d.Docker(t, "modresources", "--net-egress-pps=1500", "c1")
		changed <- time.Since(begin)
	}()
	came, _ := packetRate(t, c1.inside, c1.host, c1.gateway, 3*time.Second, time.Second)
	at := <-changed
	// The rate is at most the new one from the moment at which the command was started.
	most := 500*1.01 + 1500*1.01*(3*time.Second-time.Second).Seconds() + 10 + 30 + 2
	assert.Check(t, float64(came) <= most, "%d packets in 3 s with a change before %s, at most %.0f", came, at, most)
	assert.Check(t, came > 500, "%d packets", came)
	c1.wantPackets(t, true, 1500)
	c1.wantPackets(t, false, 1000)
	d.Must(t, "update", "--net-ingress-pps=-1", "c1")
	c1.wantPackets(t, false, 0)
	shown("1500 -1 1500 0 0")

	// Whichever of the two comes first: a frame of 64 bytes is 512 bits.
	d.Must(t, "update", "--net-egress-rate=80mbit", "--net-ingress-pps=700", "c1")
	c1.wantPackets(t, true, 1500)
	c1.wantPackets(t, false, 700)
	shown("1500 700 1500 700 80000000")
	d.Must(t, "update", "--net-egress-rate=100kbit", "c1")
	came, _ = packetRate(t, c1.inside, c1.host, c1.gateway, 2*time.Second, time.Second)
	assert.Check(t, came < 1000, "%d frames of 64 bytes in two seconds at 100 kbit/s", came)
	d.Must(t, "update", "--net-egress-rate=-1", "c1")

	// Another program's hand.
	since := time.Now()
	flush := func() {
		t.Helper()
		for line := range strings.Lines(h.Must(t, "nft", "list", "tables", "netdev")) {
			h.Must(t, append([]string{"nft", "delete"}, strings.Fields(line)...)...)
		}
	}
	flush()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		events := strings.Join(limitEvents(t, d, "c1", since), "\n")
		for _, want := range []string{"limit_lost NetEgressPPS bridge", "limit_lost NetIngressPPS bridge", "limit_restored NetEgressPPS bridge", "limit_restored NetIngressPPS bridge"} {
			if !strings.Contains(events, want) {
				return poll.Continue("no %s in %q", want, events)
			}
		}
		return poll.Success()
	}, poll.WithTimeout(5*time.Second), poll.WithDelay(50*time.Millisecond))
	assert.DeepEqual(t, notInForce(t, d, "c1"), []string(nil))
	c1.wantPackets(t, true, 1500)
	c1.wantPackets(t, false, 700)

	d.Kill(t)
	c1.wantPackets(t, false, 700)
	flush()
	d.StartAgain(t)
	assert.DeepEqual(t, notInForce(t, d, "c1"), []string(nil))
	c1.wantPackets(t, true, 1500)
	c1.wantPackets(t, false, 700)

	// A network of the user's own.
	d.Must(t, "network", "create", "n1")
	d.Must(t, "network", "connect", "n1", "c1")
	gateway := d.Must(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "n1")
	packetBox{h.NS, nsOf(t, d, "c1"), addrOf(t, d, "c1", "n1"), gateway}.wantPackets(t, true, 1500)
	d.Must(t, "network", "disconnect", "n1", "c1")
	d.Must(t, "network", "rm", "n1")

	d.Must(t, "rm", "-f", "c1", "free")
	assert.Equal(t, h.leftovers(t), clean)
}

// What cannot be enforced is refused as the other rates are.
func TestNetPacketRatesAreRefused(t *testing.T) {
	place.OnHost(t)
	_, d := setupNet(t)
	for flags, words := range map[string]string{
		"--net-egress-pps=0":                       "--net-egress-pps 1 to 10000000 packets",
		"--net-ingress-pps=10000001":               "--net-ingress-pps 1 to 10000000 packets",
		"--network=host --net-egress-pps=100":      "--net-egress-pps=100 --network=host bridge",
		"--network=none --net-ingress-pps=100":     "--net-ingress-pps=100 no network",
		"--net-egress-pps=1k":                      "--net-egress-pps 1 to 10000000 packets",
		"--network=container:x --net-egress-pps=9": "another one",
	} {
		r := d.Docker(t, append(append([]string{"create"}, strings.Fields(flags)...), "busybox", "true")...)
		assert.Check(t, r.Code != 0, flags)
		wantWords(t, r.Stderr, strings.Fields(words)...)
	}
	d.Must(t, "info") // It goes on.
}
