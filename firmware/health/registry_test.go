package health

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSilenceIsAWedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		b := r.Component("store", true, 30*time.Second)
		time.Sleep(30 * time.Second)
		if _, reason := b.Wedged(); reason != "" || len(r.Wedged()) != 0 {
			t.Fatalf("wedged at its limit: %s", reason)
		}
		time.Sleep(time.Second)
		since, reason := b.Wedged()
		if !strings.Contains(reason, "store has given no sign of life for 31s") || time.Since(since) != 31*time.Second {
			t.Fatalf("since %v: %q", since, reason)
		}
		if got := r.Wedged(); len(got) != 1 || got[0].Component != "store" || got[0].Reason != reason {
			t.Fatalf("wedged components: %+v", got)
		}
		if ok, what := r.Healthy(time.Now()); ok || len(what) != 1 {
			t.Fatalf("healthy: %v %q", ok, what)
		}
		b.Alive()
		if ok, what := r.Healthy(time.Now()); !ok || what != nil || r.Wedged() != nil {
			t.Fatalf("healthy after a sign of life: %v %q", ok, what)
		}
	})
}

func TestOnlyCriticalComponentsHaveTheGatewayReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		r.Component("history", false, time.Second)
		time.Sleep(time.Minute)
		if got := r.Wedged(); got != nil {
			t.Errorf("wedged: %+v", got)
		}
		if ok, what := r.Healthy(time.Now()); ok || !strings.HasPrefix(what[0], "history has given no sign of life") {
			t.Errorf("healthy: %v %q", ok, what)
		}
	})
}

func TestFailingIsNoSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		b := r.Component("store", true, 30*time.Second)
		for range 31 {
			b.Failing(errors.New("fdatasync: input/output error"))
			if ok, what := r.Healthy(time.Now()); ok || !strings.Contains(what[0], "input/output error") {
				t.Fatalf("a failing component counts as healthy: %q", what)
			}
			time.Sleep(time.Second)
		}
		if _, reason := b.Wedged(); !strings.Contains(reason, "store has failed for 31s") || !strings.HasSuffix(reason, "fdatasync: input/output error") {
			t.Fatalf("reason %q", reason)
		}
	})
}

func TestRestartsAreAliveButNotHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		b := r.Component("link", true, time.Minute)
		for range 5 { // it ends again and again
			time.Sleep(50 * time.Second)
			b.Restarted(errors.New("panic: nil map"))
			if r.Wedged() != nil {
				t.Fatal("a component that is restarted has the gateway reset")
			}
			if ok, what := r.Healthy(time.Now()); ok || !strings.Contains(what[0], "panic: nil map") {
				t.Fatalf("healthy: %q", what)
			}
		}
		b.Alive()
		if ok, what := r.Healthy(time.Now()); ok || !strings.Contains(what[0], "was started again") {
			t.Fatalf("healthy right after a restart: %q", what)
		}
		time.Sleep(time.Minute + time.Second)
		b.Alive()
		if ok, what := r.Healthy(time.Now()); !ok {
			t.Fatalf("not healthy for ever after: %q", what)
		}
	})
}

func TestRestAndForgive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		b := r.Component("pods", true, time.Second)
		b.Rest()
		time.Sleep(time.Hour)
		if r.Wedged() != nil {
			t.Error("a component at rest is wedged")
		}
		b.Alive()
		time.Sleep(2 * time.Second)
		if r.Wedged() == nil {
			t.Error("a sign of life did not end the rest")
		}
		r.Forgive()
		if r.Wedged() != nil {
			t.Error("not forgiven")
		}
		if s := r.States(); len(s) != 1 || s[0].Name != "pods" || s[0].Resting || s[0].Trouble != "" {
			t.Errorf("states %+v", s)
		}
		if r.Component("pods", true, time.Second) != b {
			t.Error("the same name gives another beat")
		}
	})
}

// A sign of life is given by loops that go round ten thousand times a second.
func TestNothingIsAllocated(t *testing.T) {
	r := NewRegistry()
	b := r.Component("devices", true, time.Minute)
	if n := testing.AllocsPerRun(100, b.Alive); n != 0 {
		t.Errorf("a sign of life allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = r.Wedged() }); n != 0 {
		t.Errorf("looking at components that are alive allocates %v times", n)
	}
}
