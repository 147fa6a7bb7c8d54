package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/leaks"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// held is what the agent had when no pod was there, look by look.
type held struct {
	hours, megabytes, goroutines, files []float64
}

func (h *held) look(ctx context.Context, w *workload, at time.Duration) error {
	p, err := leaks.Measure(w.stack.Agent)
	if err != nil {
		return err
	}
	n, err := stack.Goroutines(ctx, w.stack.AgentWeb)
	if err != nil {
		return err
	}
	h.hours, h.megabytes = append(h.hours, at.Hours()), append(h.megabytes, float64(p.PSS)/mb)
	h.goroutines, h.files = append(h.goroutines, float64(n)), append(h.files, float64(p.Files))
	return nil
}

// churn lets pods come and go, four at a time, and fits a line through the agent's memory: what it was when no pod was there. Goroutines and
// open files are those of the last fifth of the looks less those of the first.
func (w *workload) churn(ctx context.Context, r *bench.Report) error {
	if err := w.quietly(ctx); err != nil {
		return err
	}
	w.opt.say("pods come and go for %v", w.opt.pods.churn)
	var h held
	began, cycles := time.Now(), 0
	for time.Since(began) < w.opt.pods.churn {
		set := "churn-" + strconv.Itoa(cycles)
		if _, err := w.createAndWatch(ctx, set, 4); err != nil {
			return err
		}
		if err := w.deleteSet(ctx, set); err != nil {
			return err
		}
		cycles += 4
		if at := time.Since(began); at > w.opt.pods.churn/5 { // the first fifth fills caches and pools
			if err := h.look(ctx, w, at); err != nil {
				return err
			}
		}
	}
	if len(h.hours) < 5 {
		return fmt.Errorf("%d rounds of churn in %v say nothing: give it longer", len(h.hours), w.opt.pods.churn)
	}
	r.Add("churn_pods", float64(cycles), "pods")
	r.Add("churn_seconds", time.Since(began).Seconds(), "s")
	r.Add("churn_growth_mb_per_hour", slope(h.hours, h.megabytes), "MB/h")
	r.Add("churn_growth_goroutines", growth(h.goroutines), "")
	r.Add("churn_growth_files", growth(h.files), "")
	r.Attach("churn", map[string]any{"extrapolated": w.opt.pods.churn < time.Hour, "pss_mb": h.megabytes, "goroutines": h.goroutines, "files": h.files})
	return nil
}

// growth is the median of the last fifth less that of the first.
func growth(values []float64) float64 {
	n := max(len(values)/5, 1)
	return bench.Median(values[len(values)-n:]) - bench.Median(values[:n])
}

// slope is that of the line through the points with the least squares.
func slope(x, y []float64) float64 {
	var mx, my, xy, xx float64
	for i := range x {
		mx, my = mx+x[i]/float64(len(x)), my+y[i]/float64(len(y))
	}
	for i := range x {
		xy, xx = xy+(x[i]-mx)*(y[i]-my), xx+(x[i]-mx)*(x[i]-mx)
	}
	return xy / xx
}
