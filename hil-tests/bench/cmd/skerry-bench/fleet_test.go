package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
)

func testRun(t *testing.T, f fleetOptions) *fleetRun {
	t.Helper()
	return &fleetRun{options: options{module: t.TempDir(), out: io.Discard}, f: f, report: bench.New("fleet", io.Discard), figures: map[string]float64{}}
}

func names(plan []phase) (out []string) {
	for _, p := range plan {
		out = append(out, p.name)
	}
	return out
}

func TestPlan(t *testing.T) {
	full := names(testRun(t, fleetOptions{}).plan())
	short := names(testRun(t, fleetOptions{short: true}).plan())
	only := names(testRun(t, fleetOptions{only: "idle,rolling"}).plan())
	if memory := names(testRun(t, fleetOptions{only: "memory"}).plan()); !slices.Contains(memory, "baseline") {
		t.Errorf("a run that measures memory without a baseline: %v", memory)
	}
	if full[0] != "set up" || full[len(full)-1] != "check" {
		t.Errorf("a run is %v", full)
	}
	if slices.Contains(short, "churn") || !slices.Contains(short, "fail-over") || short[len(short)-1] != "check" {
		t.Errorf("a short run is %v", short)
	}
	if want := []string{"set up", "first connection", "pods", "devices", "connect all", "idle", "rolling", "check"}; !slices.Equal(only, want) {
		t.Errorf("a run of two phases is %v, want %v", only, want)
	}
}

// TestFailingPhase: what was measured before a phase failed is in the file, and so is what is missing and why.
func TestFailingPhase(t *testing.T) {
	r := testRun(t, fleetOptions{})
	good := phase{name: "good", limit: time.Minute, run: func(context.Context) error { r.add("connect_all_s", 3, "s"); return nil }}
	bad := phase{name: "bad", limit: time.Millisecond, run: func(ctx context.Context) error { <-ctx.Done(); return errors.New("7 of 9 agents are not in sync") }}
	if err := r.phase(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if err := r.phase(t.Context(), bad); err == nil {
		t.Fatal("a phase that failed is no error")
	}
	r.leaveOut(phase{name: "later"}, "no time")
	if err := r.save(); err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(filepath.Join(r.outDir(), "fleet.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Connect bench.Figure `json:"connect_all_s"`
		Missing []string
		Phases  []phaseRecord
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Connect.Value != 3 || slices.Contains(doc.Missing, "connect_all_s") || len(doc.Missing) != len(required())-1 {
		t.Errorf("figure %v, missing %v", doc.Connect, doc.Missing)
	}
	if len(doc.Phases) != 3 || doc.Phases[0].Failed != "" || doc.Phases[1].Failed != "7 of 9 agents are not in sync (not done within 1ms)" || doc.Phases[2].NotRun != "no time" {
		t.Errorf("phases %+v", doc.Phases)
	}
	if doc.Phases[0].CPU == nil {
		t.Error("nobody used a processor")
	}
}

// TestRequiredFiguresAreMeasured: a name that no phase adds would be missing for ever.
func TestRequiredFiguresAreMeasured(t *testing.T) {
	rows := fleetRows()
	for _, n := range required() {
		if n == "agents" || n == "half_open_detect_s" { // shown as heading, and as its two parts
			continue
		}
		if !slices.ContainsFunc(rows, func(r row) bool { return r.figure == n }) {
			t.Errorf("%s is required but not in the table", n)
		}
	}
}
