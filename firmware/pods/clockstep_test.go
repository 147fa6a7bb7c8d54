//go:build clockstep

// Compiled with a package time whose wall clock can be set (hil-tests/rig/clockstep); hil-tests/clock runs these tests.

package pods

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

const year = 365 * 24 * 3600 // s

// steps are what the clock is set by, in seconds. Bubbles begin in the year 2000.
var steps = map[string]int64{
	"a year ahead": year, "a year back": -year, "ten minutes ahead": 600, "ten minutes back": -600, "1970": -30 * year,
}

// eachStep runs test once for each step, with a running agent and with one that is started again right after it. step sets the clock.
func eachStep(t *testing.T, test func(w *world, seconds int64, again bool, step func())) {
	for name, seconds := range steps {
		for kind, again := range map[string]bool{"running": false, "started again": true} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				defer time.SetWallClock(0)
				simulate(t, func(w *world) {
					defer time.SetWallClock(0)
					test(w, seconds, again, func() {
						if again {
							w.stop()
						}
						time.SetWallClock(seconds)
						if again {
							w.start()
						}
					})
				})
			})
		}
	}
}

// TestClockStepNoRestart: what runs goes on, is not probed early, and its times are never in the future.
func TestClockStepNoRestart(t *testing.T) {
	eachStep(t, func(w *world, _ int64, _ bool, step func()) {
		born := time.Now()
		w.rt.mu.Lock()
		w.rt.exec = func(string, []string) (int32, error) {
			if time.Since(born) < 50*time.Second { // it needs so long to come up
				return 1, nil
			}
			return 0, nil
		}
		w.rt.mu.Unlock()
		w.apply(strings.Replace(simplePod, `"image":"app:1"`, `"image":"app:1","livenessProbe":{"exec":{"command":["x"]},"initialDelaySeconds":60,"periodSeconds":5,"timeoutSeconds":1,"failureThreshold":1,"successThreshold":1}`, 1))
		w.settle(20 * time.Second)
		if got := w.status().Phase; got != phaseRunning {
			t.Fatalf("the pod is %s", got)
		}
		step()
		w.settle(10 * time.Minute)
		list := w.rt.byName("c")
		if len(list) != 1 || list[0].state != cri.ContainerRunning || w.status().ContainerStatuses[0].RestartCount != 0 || w.event("Killing") != nil {
			t.Fatalf("%d containers, status %+v, log:\n%s", len(list), w.status().ContainerStatuses, w.logText())
		}
		checkTimes(t, w)
	})
}

// checkTimes holds that nothing that the status says happened in the future.
func checkTimes(t *testing.T, w *world) {
	t.Helper()
	s, most := w.status(), time.Now().Add(clockSlack)
	check := func(what string, at *corev1.Time) {
		t.Helper()
		if at != nil && at.After(most) {
			t.Errorf("%s is %v, the clock says %v", what, at, time.Now().UTC())
		}
	}
	check("startTime", s.StartTime)
	for _, c := range s.Conditions {
		check(c.Type, c.LastTransitionTime)
	}
	for _, c := range w.node().Status.Conditions {
		check("the node's "+c.Type, c.LastTransitionTime)
		check("the node's heartbeat of "+c.Type, c.LastHeartbeatTime)
	}
}

// TestClockStepBackoff: the pause of a crash loop is what it would have been. An agent that was not there when the container ended has only the wall
// clock to tell how long ago that is: it never waits longer than the pause.
func TestClockStepBackoff(t *testing.T) {
	eachStep(t, func(w *world, seconds int64, again bool, step func()) {
		var starts []time.Time
		w.rt.programs["c"] = func(uint32) run {
			starts = append(starts, time.Now())
			return run{lasts: time.Second, code: 1}
		}
		w.apply(simplePod) // starts at 0, 2, and after 10, 20, 40 s
		for i := 0; len(starts) < 4 && i < 300; i++ {
			w.settle(time.Second)
		}
		w.settle(10 * time.Second)
		before := len(starts)
		step()
		for range 120 {
			if w.settle(time.Second); len(starts) > before {
				break
			}
		}
		if len(starts) == before {
			t.Fatalf("it was not started again; log:\n%s", w.logText())
		}
		waited := starts[before].Sub(starts[before-1]) - time.Second
		least, most := 39*time.Second, 46*time.Second
		if again { // 10 s of the pause were over
			least, most = 10*time.Second, most+10*time.Second
		}
		if waited < least || waited > most {
			t.Errorf("it was started again after %v instead of 40s", waited)
		}
		if again && seconds < 0 && waited < 39*time.Second {
			t.Errorf("the pause was skipped: %v", waited)
		}
	})
}

// TestClockStepLongRun: a run counts for as long as it was, whatever the clock says: it takes ten minutes to forget a crash loop.
func TestClockStepLongRun(t *testing.T) {
	for name, c := range map[string]struct {
		runs, least, most time.Duration
	}{
		"short": {9 * time.Minute, 8 * time.Second, 15 * time.Second}, "long": {11 * time.Minute, 0, 4 * time.Second},
	} {
		for step, seconds := range steps {
			t.Run(name+"/"+step, func(t *testing.T) {
				defer time.SetWallClock(0)
				simulate(t, func(w *world) {
					defer time.SetWallClock(0)
					var starts []time.Time
					w.rt.programs["c"] = func(n uint32) run {
						starts = append(starts, time.Now())
						if n == 0 {
							return run{lasts: time.Second, code: 1}
						}
						return run{lasts: c.runs, code: 1}
					}
					w.apply(simplePod)
					w.settle(3 * time.Minute)
					time.SetWallClock(seconds)
					for range 1200 {
						if w.settle(time.Second); len(starts) > 2 {
							break
						}
					}
					if len(starts) != 3 {
						t.Fatalf("started %d times", len(starts))
					}
					if waited := starts[2].Sub(starts[1]) - c.runs; waited < c.least || waited > c.most {
						t.Errorf("started again after %v", waited)
					}
				})
			})
		}
	}
}

// TestClockStepDeadline: activeDeadlineSeconds are seconds, across a restart of the agent too.
func TestClockStepDeadline(t *testing.T) {
	eachStep(t, func(w *world, _ int64, _ bool, step func()) {
		born := time.Now()
		w.apply(strings.Replace(simplePod, `"containers"`, `"activeDeadlineSeconds":600,"containers"`, 1))
		w.settle(100 * time.Second)
		step()
		for w.settle(time.Second); w.status().Phase == phaseRunning && time.Since(born) < time.Hour; {
			w.settle(time.Second)
		}
		if took := time.Since(born); took < 599*time.Second || took > 610*time.Second || w.status().Reason != reasonDeadline {
			t.Errorf("%s %s after %v", w.status().Phase, w.status().Reason, took)
		}
	})
}

// TestClockStepOften: a clock that is set ten times a minute disturbs nothing.
func TestClockStepOften(t *testing.T) {
	defer time.SetWallClock(0)
	simulate(t, func(w *world) {
		defer time.SetWallClock(0)
		w.apply(simplePod)
		w.settle(5 * time.Second)
		for i := range 100 {
			time.SetWallClock([]int64{600, -600, year, -year, -30 * year, 0}[i%6])
			w.settle(6 * time.Second)
			if i%7 == 0 {
				w.stop()
				w.start()
			}
		}
		time.SetWallClock(0)
		w.settle(time.Minute)
		list := w.rt.byName("c")
		if len(list) != 1 || list[0].state != cri.ContainerRunning || w.status().Phase != phaseRunning || w.event("Killing") != nil {
			t.Fatalf("%d containers, %+v", len(list), w.status())
		}
		checkTimes(t, w)
	})
}
