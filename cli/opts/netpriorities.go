// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// NetPriorities is the value of a flag that takes a priority for a network
// interface and can be given several times.
type NetPriorities struct {
	value []container.NetPriority
}

// Set adds an entry as [ParseNetPriority] reads it; one for an interface that
// has one already replaces it. An empty value empties the list, which clears
// the priorities that a container had. An error keeps the old value.
func (p *NetPriorities) Set(value string) error {
	if value == "" {
		p.value = []container.NetPriority{}
		return nil
	}
	entry, err := ParseNetPriority(value)
	if err != nil {
		return err
	}
	for i := range p.value {
		if p.value[i].Interface == entry.Interface {
			p.value[i] = entry
			return nil
		}
	}
	p.value = append(p.value, entry)
	return nil
}

// Type is the name of the value's kind in help texts.
func (*NetPriorities) Type() string { return "list" }

// String returns the entries with commas between.
func (p *NetPriorities) String() string { return FormatNetPriorities(p.value) }

// Value returns the entries, an empty list to clear them, or nil when the flag
// was not given.
func (p *NetPriorities) Value() []container.NetPriority { return p.value }

// Apply puts the entries into r, and nothing if the flag was not given.
func (p *NetPriorities) Apply(r *container.Resources) {
	if p.value != nil {
		r.NetPriorities = p.value
	}
}

// maxInterfaceName is IFNAMSIZ without the zero at the end, in bytes.
const maxInterfaceName = 15

// ParseNetPriority parses IFACE:PRIO, an interface of the host and a priority
// of 0 to 2^32-1, in decimal or as 0xAAAABBBB, the form that names a class.
func ParseNetPriority(value string) (container.NetPriority, error) {
	i := strings.LastIndexByte(value, ':')
	if i < 0 {
		return container.NetPriority{}, errors.New("must be IFACE:PRIO, such as eth0:5")
	}
	name, number := value[:i], value[i+1:]
	if name == "" || len(name) > maxInterfaceName || name == "." || name == ".." || strings.ContainsAny(name, "/ \t\n,") {
		return container.NetPriority{}, fmt.Errorf("%q is not a network interface: must be a name of 1 to %d characters without blanks, slashes and commas", name, maxInterfaceName)
	}
	base := 10
	if hex, ok := strings.CutPrefix(strings.ToLower(number), "0x"); ok {
		base, number = 16, hex
	}
	n, err := strconv.ParseUint(number, base, 32)
	if err != nil {
		return container.NetPriority{}, errors.New("the priority of " + name + " must be 0 to 4294967295")
	}
	return container.NetPriority{Interface: name, Priority: uint32(n)}, nil
}

// FormatNetPriorities spells priorities as the flag takes them, with commas
// between.
func FormatNetPriorities(priorities []container.NetPriority) string {
	texts := make([]string, len(priorities))
	for i, p := range priorities {
		texts[i] = fmt.Sprintf("%s:%d", p.Interface, p.Priority)
	}
	return strings.Join(texts, ",")
}
