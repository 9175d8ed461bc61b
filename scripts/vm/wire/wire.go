// SPDX-License-Identifier: Apache-2.0

// Package wire is what the host side and the guest side of the test machine
// agree on: the job written to the second disk and the two marker lines on the
// results port.
package wire

import (
	"strconv"
	"strings"
)

// The cgroup layouts the guest can mount.
const (
	V1 = "v1" // one hierarchy per controller under /sys/fs/cgroup
	V2 = "v2" // cgroup2 on /sys/fs/cgroup
)

// Marker lines start with a control character, which no test prints by chance.
const (
	Ready = "\x01vm-ready" // followed by the guest's uptime in seconds
	Exit  = "\x01vm-exit"  // followed by the command's exit code
)

// Job is what the guest runs.
type Job struct {
	Mode  string   `json:"mode"`            // V1 or V2
	Args  []string `json:"args"`            // command and its arguments; looked up in PATH
	Env   []string `json:"env,omitempty"`   // NAME=value, added to the guest's own
	Shell bool     `json:"shell,omitempty"` // the command reads the results port
}

// Marker splits a line of the results port. The text before the marker is the
// command's own output: one that does not end in a newline shares its last line
// with the exit marker.
func Marker(line string) (before, kind, value string, ok bool) {
	for _, m := range []string{Ready, Exit} {
		if i := strings.Index(line, m+" "); i >= 0 {
			return line[:i], m, strings.TrimSpace(line[i+len(m):]), true
		}
	}
	return line, "", "", false
}

// Code reads the value of an Exit marker.
func Code(value string) (int, error) {
	return strconv.Atoi(value)
}
