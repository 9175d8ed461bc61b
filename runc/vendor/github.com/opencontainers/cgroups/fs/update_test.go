// SPDX-License-Identifier: Apache-2.0

package fs

import (
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fscommon"
)

func TestNetClsClear(t *testing.T) {
	path := tempDir(t, "net_cls")
	writeFileContents(t, path, map[string]string{"net_cls.classid": "1048576"})

	clear := &cgroups.Resources{}
	clear.NetClsClear = true
	if err := (&NetClsGroup{}).Set(path, clear); err != nil {
		t.Fatal(err)
	}
	value, err := fscommon.GetCgroupParamUint(path, "net_cls.classid")
	if err != nil {
		t.Fatal(err)
	}
	if value != 0 {
		t.Errorf("net_cls.classid is %d, want 0", value)
	}
}
