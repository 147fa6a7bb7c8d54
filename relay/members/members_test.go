package members

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/VictoriaMetrics/metrics"
)

// syncBuffer is a log that is read while others write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// replica is a relay's Members that runs.
type replica struct {
	*Members
	log  *syncBuffer
	stop func()
}

func (s *server) start(t *testing.T, client string, o Options) *replica {
	t.Helper()
	r := &replica{log: new(syncBuffer)}
	o.Client, o.Log = s.client(client), slog.New(slog.NewTextHandler(r.log, nil))
	r.Members = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// run lets the bubble's time pass.
func run(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *replica) names() string {
	return strings.Join(slices.Sorted(maps.Keys(r.Alive())), " ")
}

func (r *replica) want(t *testing.T, names string) {
	t.Helper()
	if got := r.names(); got != names {
		t.Errorf("%s knows %q, want %q", r.opts.Name, got, names)
	}
}

func agents(n int) func() int { return func() int { return n } }

func TestMeetAndPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := s.start(t, "a", Options{Name: "a", Address: "192.0.2.1:7443", Agents: agents(7)})
		run(time.Second)
		if !a.Synced() || len(a.Elsewhere()) != 0 {
			t.Errorf("alone: synced %v, elsewhere %v", a.Synced(), a.Elsewhere())
		}
		b := s.start(t, "b", Options{Name: "b", Address: "192.0.2.2:7443", Agents: agents(5)})
		c := s.start(t, "c", Options{Name: "c", Address: "[2001:db8::3]:7443", Agents: agents(3)})
		d := s.start(t, "d", Options{Name: "d"})
		run(time.Second)
		for _, r := range []*replica{a, b, c, d} {
			r.want(t, "a b c d")
		}
		if got := a.Elsewhere(); !slices.Equal(got, []string{"[2001:db8::3]:7443", "192.0.2.2:7443"}) {
			t.Errorf("elsewhere than a: %v", got)
		}
		if m := b.Alive()["a"]; m != (Member{Name: "a", Address: "192.0.2.1:7443", Agents: 7}) {
			t.Errorf("b knows of a: %+v", m)
		}
		if m := b.Alive()["b"]; !m.Self {
			t.Errorf("b knows of itself: %+v", m)
		}

		c.Drain()
		run(time.Millisecond) // nobody waits for the next renewal
		if got := a.Elsewhere(); !slices.Equal(got, []string{"192.0.2.2:7443"}) || !a.Alive()["c"].Draining {
			t.Errorf("elsewhere than a while c drains: %v", got)
		}
		c.stop()
		run(time.Millisecond)
		a.want(t, "a b d")
		if s.get(t, "skerry-relay-c") != nil {
			t.Error("c has left its Lease behind")
		}
		if !strings.Contains(a.log.String(), "a relay has left") {
			t.Errorf("a's log:\n%s", a.log)
		}
	})
}

// TestKilled: a relay that ends without a word is dead for the others after Duration and a few renewals of theirs, not before,
// and its Lease is deleted.
func TestKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := s.start(t, "a", Options{Name: "a"}), s.start(t, "b", Options{Name: "b"})
		run(time.Minute)
		s.fail("b", errors.New("killed"))
		b.stop()
		run(Duration - Interval)
		a.want(t, "a b")
		run(Duration)
		a.want(t, "a")
		if n := strings.Count(a.log.String(), "a relay is silent"); n != 1 {
			t.Errorf("%d warnings:\n%s", n, a.log)
		}
		late := s.start(t, "late", Options{Name: "late"})
		run(time.Second)
		late.want(t, "a b late") // it cannot know yet
		run(2 * Duration)
		late.want(t, "a late")
		run(forget)
		if s.get(t, "skerry-relay-b") != nil {
			t.Error("the Lease of a relay that was killed is never deleted")
		}
	})
}

// TestBlind: who has lost the API server, or hears of its changes late, declares nobody dead.
func TestBlind(t *testing.T) {
	for name, blind := range map[string]func(s *server, on bool){
		"no API server": func(s *server, on bool) {
			var err error
			if on {
				err = errors.New("connection refused")
			}
			s.fail("a", err)
		},
		"watch lags": func(s *server, on bool) { s.lag("a", on) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a, b := s.start(t, "a", Options{Name: "a"}), s.start(t, "b", Options{Name: "b"})
				run(time.Minute)
				blind(s, true)
				for range 60 {
					run(time.Minute)
					a.want(t, "a b")
				}
				blind(s, false)
				for range 60 {
					run(time.Second)
					a.want(t, "a b")
				}
				run(2 * time.Minute) // b may have given a's Lease up meanwhile
				a.want(t, "a b")
				b.want(t, "a b")
			})
		})
	}
}

// TestAllBlind: after an outage of the API server everybody is still there.
func TestAllBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := s.start(t, "a", Options{Name: "a"}), s.start(t, "b", Options{Name: "b"})
		run(time.Minute)
		s.fail("a", errors.New("down"))
		s.fail("b", errors.New("down"))
		run(time.Hour)
		s.fail("a", nil)
		s.fail("b", nil)
		for range 120 {
			run(time.Second)
			a.want(t, "a b")
			b.want(t, "a b")
		}
		if text := a.log.String(); strings.Count(text, "do not hear of this one") > 7 || !strings.Contains(text, "hear of this one again") {
			t.Errorf("a's log:\n%s", text)
		}
	})
}

// TestClocks: a relay whose clock is decades off is alive, because its Lease changes.
func TestClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := s.start(t, "a", Options{Name: "a"})
		epoch := metav1.NewMicroTime(time.Unix(0, 0))
		for i := range 30 {
			s.edit("skerry-relay-x", func(l *coordinationv1.Lease) {
				at := metav1.NewMicroTime(epoch.Add(time.Duration(i) * time.Second))
				l.Spec.RenewTime = &at
			})
			run(Interval)
			a.want(t, "a skerry-relay-x")
		}
		run(3 * Duration)
		a.want(t, "a")
		future := metav1.NewMicroTime(time.Now().AddDate(50, 0, 0))
		s.edit("skerry-relay-x", func(l *coordinationv1.Lease) { l.Spec.RenewTime = &future })
		run(time.Second)
		a.want(t, "a skerry-relay-x")
		run(3 * Duration)
		a.want(t, "a")
	})
}

// TestRequests: an hour of three relays costs what the package says, and no LIST but the first.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		for _, name := range []string{"a", "b", "c"} {
			s.start(t, name, Options{Name: name})
		}
		run(time.Hour)
		for _, name := range []string{"a", "b", "c"} {
			if n := s.count(name + " update"); n < 720 || n > 800 {
				t.Errorf("%s: %d updates in an hour", name, n)
			}
			for verb, want := range map[string]int{"list": 1, "watch": 1, "get": 1, "create": 1, "delete": 0, "patch": 0} {
				if n := s.count(name + " " + verb); n != want {
					t.Errorf("%s: %d times %s, want %d", name, n, verb, want)
				}
			}
		}
	})
}

// TestOneName: two relays with one name say so, each once in a while.
func TestOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := s.start(t, "1", Options{Name: "a"}), s.start(t, "2", Options{Name: "a"})
		run(5 * time.Minute)
		for _, r := range []*replica{a, b} {
			if n := strings.Count(r.log.String(), "another relay has this one's name"); n != 1 {
				t.Errorf("%d errors:\n%s", n, r.log)
			}
		}
	})
}

// TestRestart: the next process of the same name takes over without a word, though the Lease is still there.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		b := s.start(t, "b", Options{Name: "b"})
		first := s.start(t, "1", Options{Name: "a"})
		run(time.Minute)
		s.fail("1", errors.New("killed"))
		first.stop()
		second := s.start(t, "2", Options{Name: "a"})
		run(time.Minute)
		b.want(t, "a b")
		if text := second.log.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, "level=WARN") {
			t.Errorf("log:\n%s", text)
		}
		if at := s.get(t, "skerry-relay-a").Spec.AcquireTime; time.Since(at.Time) > time.Minute+time.Second {
			t.Errorf("acquired at %v", at)
		}
	})
}

// TestEdited: what others have written into the Lease stays, what is wrong in others' does no harm, and a Lease that was deleted
// comes back.
func TestEdited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := s.start(t, "a", Options{Name: "a", Address: "192.0.2.1:1"})
		run(time.Second)
		s.edit("skerry-relay-a", func(l *coordinationv1.Lease) {
			l.Annotations["example.org/note"] = "x"
			l.Annotations[AddressAnnotation] = "192.0.2.99:1"
		})
		run(2 * Interval)
		if got := s.get(t, "skerry-relay-a").Annotations; got["example.org/note"] != "x" || got[AddressAnnotation] != "192.0.2.1:1" {
			t.Errorf("annotations are %v", got)
		}
		for name, address := range map[string]string{"none": "", "port": "192.0.2.2", "host": ":7443", "long": strings.Repeat("x", 300) + ":1", "same": "192.0.2.1:1"} {
			s.edit("skerry-relay-"+name, func(l *coordinationv1.Lease) {
				l.Annotations = map[string]string{NameAnnotation: name, AddressAnnotation: address, AgentsAnnotation: "many"}
			})
		}
		for i := range 20 {
			s.edit("skerry-relay-n"+string(rune('a'+i)), func(l *coordinationv1.Lease) {
				l.Annotations = map[string]string{AddressAnnotation: "192.0.2." + string(rune('3'+i%7)) + ":1", AgentsAnnotation: "-4"}
			})
		}
		run(time.Second)
		if got := a.Elsewhere(); len(got) != 7 {
			t.Errorf("elsewhere: %v", got)
		}
		s.mu.Lock()
		s.storeLocked("DELETED", s.leases["skerry-relay-a"])
		s.mu.Unlock()
		run(2 * Interval)
		if s.get(t, "skerry-relay-a") == nil {
			t.Error("the Lease does not come back")
		}
	})
}

// TestForbidden: rights that are missing are said once with the remedy, and counted; the relay goes on.
func TestForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, set := newServer(), metrics.NewSet()
		s.fail("a", apierrors.NewForbidden(leasesResource, "skerry-relay-a", errors.New("no")))
		a := s.start(t, "a", Options{Name: "a", Metrics: set})
		run(time.Minute)
		if text := a.log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "skerryctl init") {
			t.Errorf("log:\n%s", text)
		}
		var out bytes.Buffer
		set.WritePrometheus(&out)
		if !regexp.MustCompile(`skerry_relay_member_renewals_total\{result="failed"\} 1[0-9]\n`).MatchString(out.String()) {
			t.Errorf("metrics:\n%s", &out)
		}
		s.fail("a", nil)
		run(time.Minute)
		if s.get(t, "skerry-relay-a") == nil || !a.Synced() {
			t.Error("the relay has not joined")
		}
	})
}

func TestLeaseName(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	seen := map[string]string{}
	for _, name := range []string{"a", "relay-1", "Relay-1", "relay_1", "relay.1", "relay-1-", "relay-1--", strings.Repeat("x", 253), strings.Repeat("x", 252), "ü"} {
		got := LeaseName(name)
		if !valid.MatchString(got) || len(got) > 253 {
			t.Errorf("%q: %q is no name", name, got)
		}
		if other, is := seen[got]; is {
			t.Errorf("%q and %q share %q", name, other, got)
		}
		seen[got] = name
	}
	if got := LeaseName("skerry-relay-6d5f-x2"); got != "skerry-relay-skerry-relay-6d5f-x2" {
		t.Errorf("plain names stay: %q", got)
	}
}
