//go:build integration

package relays

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// TestRelays runs all of it on one control plane; each part leaves three relays and a fleet that is in sync.
func TestRelays(t *testing.T) {
	w := newWorld(t)
	part := func(name string, fn func()) {
		t.Run(name, func(t *testing.T) {
			old := w.t
			w.t = t
			defer func() { w.t = old }()
			w.spread()
			fn()
		})
	}
	part("they know of each other", w.testMembers)
	part("one is drained", w.testDrain)
	part("one is killed", w.testKill)
	part("one is half dead", w.testSplit)
	part("they freeze in turn", w.testFreezing)
}

// testMembers: each relay has a Lease that says where it is and how many agents it has, and `skerryctl status` shows them.
func (w *world) testMembers() {
	w.eventually("skerryctl status shows three relays", func() error {
		out, err := w.Ctl(w.t.Context(), "status")
		if err != nil {
			return err
		}
		for _, r := range w.relays {
			if !strings.Contains(out, r.Name) || !strings.Contains(out, r.At) {
				return fmt.Errorf("%s (%s) is not in:\n%s", r.Name, r.At, out)
			}
		}
		return nil
	})
	for _, r := range w.relays {
		if n := w.counters(r)["skerry_relay_members"]; n != 3 {
			w.t.Errorf("%s sees %v relays", r.Name, n)
		}
	}
}

// testDrain: SIGTERM while everything changes. All agents go elsewhere, nothing is lost, the process ends with status 0.
func (w *world) testDrain() {
	drained := w.relays[0]
	stop := w.unrest()
	moved := w.at(drained)
	dials := attempts(moved)
	w.eventually("the real gateway is connected", func() error {
		st, err := w.Status(w.t.Context())
		if err == nil && !st.Link.Connected {
			err = fmt.Errorf("its link: %+v", st.Link)
		}
		return err
	})
	w.must(drained.Term())
	w.must(w.fleet.Wait(w.within(), "in sync elsewhere", elsewhere(drained), nil))
	dials = attempts(moved) - dials
	w.must(drained.Wait(w.within()))
	stop()
	w.settled()
	w.toldWhere(drained)
	w.t.Logf("%d agents were drained with %d dials; agents are at %v", len(moved), dials, w.where())
	w.eventually("the real gateway is elsewhere", func() error {
		st, err := w.Status(w.t.Context())
		if err == nil && (!st.Link.Connected || !st.Link.InSync || st.Link.Relay == drained.Name) {
			err = fmt.Errorf("its link: %+v", st.Link)
		}
		return err
	})
	for _, r := range w.others(drained) {
		if n := w.counters(r)["skerry_relay_members"]; n != 2 {
			w.t.Errorf("%s sees %v relays after the drain", r.Name, n)
		}
	}
}

// toldWhere wants the log of a relay that has ended to say that it sent its agents to the others.
func (w *world) toldWhere(drained *stack.Replica) {
	text, err := os.ReadFile(filepath.Join(w.Dir, "logs", drained.Name+".log"))
	w.must(err)
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "sessions are ended") {
			continue
		}
		for _, r := range w.others(drained) {
			if !strings.Contains(line, r.At) {
				w.t.Errorf("agents were not told of %s (%s): %s", r.Name, r.At, line)
			}
		}
		return
	}
	w.t.Error("its log does not say where the agents went")
}

// attempts sums how often agents have dialled.
func attempts(agents []*fleet.Agent) (n uint64) {
	for _, a := range agents {
		n += a.Status().Attempts
	}
	return n
}

// testKill: SIGKILL while everything changes. The others list nothing, and send nothing that has not changed.
func (w *world) testKill() {
	killed := w.relays[1]
	before := map[string]fleet.Counters{}
	for _, r := range w.others(killed) {
		before[r.Name] = w.counters(r)
	}
	stop := w.unrest()
	began := time.Now()
	w.must(killed.Kill())
	w.must(w.fleet.Wait(w.within(), "in sync elsewhere", elsewhere(killed), nil))
	took := time.Since(began)
	stop()
	w.settled()
	w.t.Logf("all agents were in sync elsewhere after %.1f s: %v", took.Seconds(), w.where())
	for _, r := range w.others(killed) {
		c := w.counters(r).Sub(before[r.Name])
		if n := c.Sum("skerry_relay_api_requests_total", `verb="list"`); n != 0 {
			w.t.Errorf("%s made %v LISTs", r.Name, n)
		}
	}
}

// testSplit: relay-a loses the API server while it has reports to write, and hangs; its agents move and report something newer. Then
// its writes arrive, late, and it goes on: it finds other sessions in the Leases, drops what it has, and changes nothing.
func (w *world) testSplit() {
	half := w.relays[0]
	w.settled()
	moved := w.at(half)
	before := w.counters(half)
	w.gate.Shut()
	for _, a := range moved {
		w.report(a)
	}
	w.eventually("the relay has taken the reports", func() error {
		if n := w.counters(half).Sub(before)["skerry_relay_reports_total"]; n < float64(len(moved)) {
			return fmt.Errorf("%v of %d", n, len(moved))
		}
		return nil
	})
	w.must(half.Signal(syscall.SIGSTOP))
	w.must(fleet.Wait(w.within(), moved, "in sync elsewhere", elsewhere(half), nil))
	for range 3 {
		for _, a := range moved {
			w.report(a)
		}
	}
	w.eventually("the API shows the newer reports", w.upward)
	w.gate.Open()
	w.must(half.Signal(syscall.SIGCONT))
	var c fleet.Counters
	w.eventually("the half-dead relay lets its sessions go", func() error {
		c = w.counters(half)
		if n := c["skerry_relay_sessions"] + c["skerry_relay_write_sessions"] + c["skerry_relay_write_queue_depth"]; n != 0 {
			return fmt.Errorf("sessions %v, that may write %v, queue %v", c["skerry_relay_sessions"], c["skerry_relay_write_sessions"], c["skerry_relay_write_queue_depth"])
		}
		return nil
	})
	c = c.Sub(before)
	if n := c.Sum("skerry_relay_write_conflicts_total"); n < 1 {
		w.t.Error("no late write conflicted")
	}
	if n := c["skerry_relay_sessions_fenced_total"]; n < 1 || n > float64(len(moved)) {
		w.t.Errorf("%v of %d sessions were fenced", n, len(moved))
	}
	w.t.Logf("%d agents moved; the old sessions brought %v reports, %v were fenced, %v writes conflicted", len(moved),
		c["skerry_relay_reports_total"], c["skerry_relay_sessions_fenced_total"], c.Sum("skerry_relay_write_conflicts_total"))
	w.settled()
}

// testFreezing: each relay in turn hangs for three seconds while everything changes: agents move to and fro, and half-dead sessions
// come back to life with reports that are old.
func (w *world) testFreezing() {
	before := w.observer.moved()
	fenced := func() (n float64) {
		for _, r := range w.relays {
			n += w.counters(r)["skerry_relay_sessions_fenced_total"]
		}
		return n
	}
	fencedBefore := fenced()
	stop := w.unrest()
	for range 2 {
		for _, r := range w.relays {
			left := w.at(r)
			w.must(r.Signal(syscall.SIGSTOP))
			err := fleet.Wait(w.within(), left, "in sync elsewhere", elsewhere(r), nil)
			w.must(r.Signal(syscall.SIGCONT))
			w.must(err)
		}
	}
	stop()
	w.settled()
	moves := w.observer.moved() - before
	if moves < agents {
		w.t.Errorf("Leases changed relays %d times", moves)
	}
	w.t.Logf("Leases changed relays %d times, %v sessions were fenced", moves, fenced()-fencedBefore)
}
