// SPDX-License-Identifier: Apache-2.0

package system

import (
	"testing"

	"github.com/docker/cli/internal/test"
	"github.com/docker/docker/api/types/system"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/golden"
)

func TestPrettyPrintInfoResourceLimits(t *testing.T) {
	for _, tc := range []struct {
		doc, golden string
		limits      []system.ResourceLimits
		features    []string
	}{
		{doc: "stock daemon", golden: "docker-info-no-swarm"},
		{
			doc: "enforced", golden: "docker-info-resource-limits", features: []string{"gpu-memory"},
			limits: []system.ResourceLimits{
				{Feature: "gpu-memory", Fields: []string{"GPUMemory"}, Backend: "gpu controller of cgroup v2", Devices: []string{"/dev/dri/renderD128 (amdgpu)", "/dev/dri/card0 (ast)"}},
				{Feature: "gpu-priority", Fields: []string{"GPUPriority"}, Reason: "no driver of this host has a queue to share out"},
			},
		},
		{
			doc: "not enforced", golden: "docker-info-resource-limits-refused",
			limits: []system.ResourceLimits{{Feature: "gpu-memory", Fields: []string{"GPUMemory"}, Reason: "this kernel has no gpu cgroup controller; boot a kernel built with CONFIG_CGROUP_GPU"}},
		},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			info := sampleInfoNoSwarm
			info.ResourceLimits, info.ResourceFeatures = tc.limits, tc.features
			cli := test.NewFakeCli(&fakeClient{})
			assert.NilError(t, prettyPrintInfo(cli, dockerInfo{Info: &info, ClientInfo: &clientInfo{clientVersion: clientVersion{Platform: &platformInfo{Name: "Docker Engine - Community"}, Version: "24.0.0", Context: "default"}, Debug: true}}))
			golden.Assert(t, cli.OutBuffer().String(), tc.golden+".golden")

			cli = test.NewFakeCli(&fakeClient{})
			assert.NilError(t, formatInfo(cli.Out(), dockerInfo{Info: &info}, "{{json .ResourceLimits}} {{.ResourceFeatures}}"))
			golden.Assert(t, cli.OutBuffer().String(), tc.golden+".resources.golden")
		})
	}
}

func TestVersionResourceFeatures(t *testing.T) {
	for features, want := range map[string]string{
		"gpu-memory": "\n  Experimental:     false\n  Resource limits:  gpu-memory\n",
		"":           "\n  Experimental:     false\n",
	} {
		details := map[string]string{"Experimental": "false"}
		if features != "" {
			details["ResourceFeatures"] = features
		}
		vi := engineWith(details)
		cli := test.NewFakeCli(&fakeClient{})
		tmpl, err := newVersionTemplate("")
		assert.NilError(t, err)
		assert.NilError(t, prettyPrintVersion(printerOf(cli), vi, tmpl))
		assert.Check(t, is.Contains(cli.OutBuffer().String(), want))
	}
}
