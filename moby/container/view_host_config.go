// SPDX-License-Identifier: Apache-2.0

package container

import (
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/errdefs"
	memdb "github.com/hashicorp/go-memdb"
)

// SaveHostConfig is Save for a container of which only the host config has
// changed. It has to be a copy of which nobody else knows. A container that is
// not in the store, as one that is being removed, stays out of it.
func (db *ViewDB) SaveHostConfig(id string, hostConfig *containertypes.HostConfig) error {
	return db.withTxn(func(txn *memdb.Txn) error {
		old, err := txn.First(memdbContainersTable, memdbIDIndex, id)
		if err != nil {
			return errdefs.System(err)
		}
		if old == nil {
			return nil
		}
		ctr := *old.(*Container)
		ctr.HostConfig = hostConfig
		return txn.Insert(memdbContainersTable, &ctr)
	})
}
