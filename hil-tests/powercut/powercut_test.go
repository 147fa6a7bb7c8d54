//go:build integration

package powercut

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	Child()
	os.Exit(m.Run())
}

// TestPowerCuts is the campaign; SKERRY_POWERCUTS says how many cuts (make powercut N=1000).
func TestPowerCuts(t *testing.T) {
	o := Options{Cuts: 200, Windows: 45, Hours: 2, Seed: 1, Progress: os.Stderr}
	if text := os.Getenv("SKERRY_POWERCUTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SKERRY_POWERCUTS: %v", err)
		}
		o = Options{Cuts: n, Seed: uint64(n), Progress: os.Stderr} //nolint:gosec // a count
	}
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Failures {
		t.Error(f)
	}
	t.Logf("%d random cuts and %d of a scripted day, one at each of its operations; %d failed; at most %d values lost by one", res.Cuts, res.DayCuts, res.Failed, res.MostLost)
}

// TestLeftOutSyncs is the proof that the campaign can fail: it leaves out one kind of sync after the other, and each time something that was promised must be
// found missing, or damaged.
func TestLeftOutSyncs(t *testing.T) {
	base := func(path string) string { return filepath.Base(path) }
	for name, swallow := range map[string]func(path string, dir bool) bool{
		"the store's log": func(path string, dir bool) bool {
			return !dir && (strings.HasPrefix(base(path), "log-") || strings.HasPrefix(base(path), "spare-"))
		},
		"the store's log, where it is written over an earlier one": func(path string, dir bool) bool { return !dir && strings.HasPrefix(base(path), "spare-") },
		"the store's checkpoint":                                   func(path string, dir bool) bool { return !dir && strings.HasPrefix(base(path), "state.db") },
		"the store's folder":                                       func(path string, dir bool) bool { return dir && base(path) == "store" },
		"the history's segments":                                   func(path string, dir bool) bool { return !dir && strings.HasSuffix(path, ".seg") },
		"the history's folder":                                     func(path string, dir bool) bool { return dir && base(path) == "history" },
		"a segment that is written again": func(path string, dir bool) bool {
			return !dir && strings.HasSuffix(path, ".new") && strings.Contains(path, "history")
		},
		"the folder of both": func(path string, dir bool) bool { return dir && path == "." },
	} {
		t.Run(name, func(t *testing.T) {
			res, err := Run(t.Context(), Options{Cuts: 60, Windows: 45, Hours: 1, Seed: 2, Swallow: swallow})
			if err != nil {
				t.Fatal(err)
			}
			if res.Failed == 0 {
				t.Errorf("%d cuts, and nobody noticed", res.Cuts+res.DayCuts)
			}
			t.Logf("%d of %d cuts failed", res.Failed, res.Cuts+res.DayCuts)
		})
	}
}
