// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"testing"

	"github.com/docker/docker/api/types"
	"gotest.tools/v3/assert"
)

// CVE-2026-33997: each privilege that a plugin takes is one that was granted, the first
// by name as well.
func TestEachPrivilegeIsGranted(t *testing.T) {
	list := func(values ...string) types.PluginPrivileges {
		names := []string{"allow-all-devices", "mount", "network"}
		var out types.PluginPrivileges
		for i, v := range values {
			out = append(out, types.PluginPrivilege{Name: names[i], Value: []string{v}})
		}
		return out
	}
	for _, tc := range []struct {
		doc               string
		required, granted types.PluginPrivileges
		ok                bool
	}{
		{doc: "none", ok: true},
		{doc: "the only one", required: list("true"), granted: list("true"), ok: true},
		{doc: "another value of the only one", required: list("true"), granted: list("false")},
		{doc: "another value of the first", required: list("true", "/etc", "host"), granted: list("false", "/etc", "host")},
		{doc: "another value of the last", required: list("true", "/etc", "host"), granted: list("true", "/etc", "none")},
		{
			doc:      "another name",
			required: types.PluginPrivileges{{Name: "network", Value: []string{"host"}}},
			granted:  types.PluginPrivileges{{Name: "mount", Value: []string{"host"}}},
		},
		{
			doc:      "values in another order",
			required: types.PluginPrivileges{{Name: "capabilities", Value: []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}}},
			granted:  types.PluginPrivileges{{Name: "capabilities", Value: []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}}},
			ok:       true,
		},
		{
			doc:      "one value twice in place of two",
			required: types.PluginPrivileges{{Name: "capabilities", Value: []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}}},
			granted:  types.PluginPrivileges{{Name: "capabilities", Value: []string{"CAP_NET_ADMIN", "CAP_NET_ADMIN"}}},
		},
		{
			doc:      "in another order",
			required: types.PluginPrivileges{{Name: "network", Value: []string{"host"}}, {Name: "mount", Value: []string{"/etc"}}},
			granted:  types.PluginPrivileges{{Name: "mount", Value: []string{"/etc"}}, {Name: "network", Value: []string{"host"}}},
			ok:       true,
		},
	} {
		err := validatePrivileges(tc.required, tc.granted)
		assert.Check(t, (err == nil) == tc.ok, "%s: %v", tc.doc, err)
	}
}
