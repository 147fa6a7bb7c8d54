package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSlope(t *testing.T) {
	if got := slope([]float64{0, 1, 2, 3}, []float64{10, 12.5, 14.5, 17}); math.Abs(got-2.3) > 1e-9 {
		t.Errorf("slope %v, want 2.3", got)
	}
	if got := slope([]float64{1, 2, 3}, []float64{7, 7, 7}); got != 0 {
		t.Errorf("slope of a constant: %v", got)
	}
}

func TestGrowth(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{30, 30, 31, 30, 90, 30, 30, 30, 30, 30}, 0}, {[]float64{10, 11, 12, 13, 14}, 4}, {[]float64{5}, 0}} {
		if got := growth(c.values); got != c.want {
			t.Errorf("growth of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

// TestAgentShare reads the lines that the agent writes.
func TestAgentShare(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	text := `time=2026-11-23T08:00:00.100Z level=INFO msg="object received" part=link key=configmaps/default/a/u0
time=2026-11-23T08:00:00.200Z level=DEBUG msg="object received" part=link key=pods/default/a/u1
time=2026-11-23T08:00:00.250Z level=DEBUG msg="report sent" part=link key=pods/default/a/u1
time=2026-11-23T08:00:00.300Z level=DEBUG msg="object received" part=link key=pods/default/a/u1
time=2026-11-23T08:00:00.500Z level=DEBUG msg="report sent" part=link key=pods/default/a/u1
time=2026-11-23T08:00:00.550Z level=INFO msg="pod is gone" pod=default/a
time=2026-11-23T08:00:00.900Z level=DEBUG msg="report sent" part=link key=pods/default/a/u1
`
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	running := time.Date(2026, 11, 23, 8, 0, 0, 600e6, time.UTC)
	got, err := agentShare(log, []podRun{{"a", running.Add(-time.Second), running}})
	if err != nil || len(got) != 1 || math.Abs(got[0]-300) > 1e-6 {
		t.Errorf("%v, %v; want 300 ms", got, err)
	}
	if _, err := agentShare(log, []podRun{{"b", running, running}}); err == nil {
		t.Error("a pod that the log does not know has a share")
	}
}
