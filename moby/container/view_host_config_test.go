// SPDX-License-Identifier: Apache-2.0

package container

import (
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
)

func TestViewSaveHostConfig(t *testing.T) {
	db, err := NewViewDB()
	assert.NilError(t, err)
	one := newContainer(t, t.TempDir())
	one.HostConfig = &containertypes.HostConfig{Isolation: "old"}
	one.Path = "/bin/true"
	two := newContainer(t, t.TempDir())
	assert.NilError(t, one.CheckpointTo(t.Context(), db))
	before := db.Snapshot()

	assert.NilError(t, db.SaveHostConfig(one.ID, &containertypes.HostConfig{Isolation: "new"}))
	assert.NilError(t, db.SaveHostConfig(two.ID, &containertypes.HostConfig{Isolation: "new"}))

	all, err := db.Snapshot().All()
	assert.NilError(t, err)
	assert.Equal(t, len(all), 1)
	assert.Equal(t, all[0].ID, one.ID)
	assert.Equal(t, all[0].HostConfig.Isolation, "new")
	assert.Equal(t, all[0].Command, "/bin/true")
	old, err := before.All()
	assert.NilError(t, err)
	assert.Equal(t, old[0].HostConfig.Isolation, "old") // who reads it goes on with what there was
}
