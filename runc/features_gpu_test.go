// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/urfave/cli"
)

// dockerd looks for these texts before it sends GPU limits on cgroup v1, and
// before it updates several containers by one runc.
func TestFeaturesGPU(t *testing.T) {
	var out bytes.Buffer
	app := cli.NewApp()
	app.Writer = &out
	app.Commands = []cli.Command{featuresCommand}
	if err := app.Run([]string{"runc", "features"}); err != nil {
		t.Fatal(err)
	}
	var feat features.Features
	if err := json.Unmarshal(out.Bytes(), &feat); err != nil {
		t.Fatal(err)
	}
	got, want := feat.Annotations["io.github.gpu-cgroup.unified-v1"], "gpu.memory.max,gpu.priority"
	if got != want {
		t.Errorf("got annotation %q, want %q", got, want)
	}
	if got, want := feat.Annotations["io.github.gpu-cgroup.update-many"], "update-many"; got != want {
		t.Errorf("got annotation %q, want %q", got, want)
	}
}
