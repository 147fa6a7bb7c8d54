package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/skerry/skerry/hil-tests/bench"
)

// budgetARMv7 is the design's limit for the agent on the smallest boards, in MB.
const budgetARMv7 = 20

func size(_ context.Context, r *bench.Report, o options) error {
	sizes := map[string]float64{}
	for _, f := range []struct{ name, path string }{
		{"skerryd_armv7_mb", "linux-armv7/skerryd"}, {"skerryd_arm64_mb", "linux-arm64/skerryd"},
		{"skerryd_amd64_mb", "linux-amd64/skerryd"}, {"relay_amd64_mb", "linux-amd64/skerry-relay"},
	} {
		info, err := os.Stat(filepath.Join(o.module, "build", f.path))
		if err != nil {
			return err
		}
		sizes[f.name] = float64(info.Size()) / mb
		r.Add(f.name, sizes[f.name], "MB")
	}
	if got := sizes["skerryd_armv7_mb"]; got > budgetARMv7 {
		return fmt.Errorf("skerryd for ARMv7 has %.1f MB, the budget is %d MB", got, budgetARMv7)
	}
	return nil
}
