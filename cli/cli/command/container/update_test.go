// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"testing"

	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestUpdate(t *testing.T) {
	for _, tc := range []struct {
		doc     string
		args    []string
		exp     container.UpdateConfig
		expErr  string
		expOut  string
		expWarn string
	}{
		{
			doc:    "no flag",
			args:   []string{"web"},
			expErr: "you must provide one or more flags when using this command",
		},
		{
			doc:    "no container",
			args:   []string{"--memory=1g"},
			expErr: "requires at least 1 argument",
		},
		{
			doc:    "several resources",
			args:   []string{"--cpu-shares=512", "-m", "300M", "--gpu-priority=50", "web"},
			exp:    container.UpdateConfig{Resources: container.Resources{CPUShares: 512, Memory: 300 << 20, GPUPriority: int64Ptr(50)}},
			expOut: "web\ncareful\n",
		},
		{
			doc:    "restart policy",
			args:   []string{"--restart=on-failure:3", "web"},
			exp:    container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 3}},
			expOut: "web\ncareful\n",
		},
		{
			doc:    "invalid restart policy",
			args:   []string{"--restart=on-failure:often", "web"},
			expErr: "invalid restart policy format: maximum retry count must be an integer",
		},
		{
			doc:     "unit forgotten",
			args:    []string{"--gpu-memory=10240", "web"},
			exp:     container.UpdateConfig{Resources: container.Resources{GPUMemory: int64Ptr(10240)}},
			expOut:  "web\ncareful\n",
			expWarn: "WARNING: --gpu-memory=10240 is 10240 bytes, less than 1 MiB: did you mean 10240m?\n",
		},
		{
			doc:    "GPU limits taken off",
			args:   []string{"--gpu-memory=-1", "--gpu-priority=0", "web"},
			exp:    container.UpdateConfig{Resources: container.Resources{GPUMemory: int64Ptr(-1), GPUPriority: int64Ptr(0)}},
			expOut: "web\ncareful\n",
		},
		{
			doc:    "GPU memory out of range",
			args:   []string{"--gpu-memory=0", "web"},
			expErr: `invalid argument "0" for "--gpu-memory" flag: must be 1 to 9223372036854775807 bytes`,
		},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			apiClient := newUpdateClient()
			stdout, stderr, err := runUpdating(context.Background(), newUpdateCommand, apiClient, tc.args...)
			assert.Check(t, is.Equal(stdout, tc.expOut))
			assert.Check(t, is.Equal(stderr, tc.expWarn))
			if tc.expErr != "" {
				assert.Check(t, is.ErrorContains(err, tc.expErr))
				assert.Check(t, is.Len(apiClient.calls, 0))
				return
			}
			assert.NilError(t, err)
			assert.Check(t, is.DeepEqual(apiClient.configs, []container.UpdateConfig{tc.exp}))
		})
	}
}

// TestUpdateSeveral pins that update, unlike modresources, keeps going.
func TestUpdateSeveral(t *testing.T) {
	apiClient := newUpdateClient()
	apiClient.updateErr = map[string]error{"id-db": errors.New("busy")}
	stdout, _, err := runUpdating(context.Background(), newUpdateCommand, apiClient, "--cpu-shares=512", "web", "db", "cache")
	assert.Check(t, is.Error(err, "busy"))
	assert.Check(t, is.Equal(stdout, "web\ncache\ncareful\ncareful\n"))
	assert.Check(t, is.DeepEqual(apiClient.calls, []string{"update id-web", "update id-db", "update id-cache"}))
}
