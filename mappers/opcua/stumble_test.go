package opcua

import (
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// TestAServerThatNeverLetsASessionGoOn, and can be reached, is given a new session after two attempts at most, however long it would keep the old one.
func TestAServerThatNeverLetsASessionGoOn(t *testing.T) {
	p := startPeer(t)
	d := New(Options{})
	s := devicetest.Open(t, d, p.config("publishingInterval", 50, "timeout", 300, "sessionTimeout", 3600))
	notes := subscribe(t, s, devicetest.Compile(t, d, node("n5", device.TypeDouble)))
	expect(t, notes, "the first value", func(n note) bool { return n.v.Quality == device.Good })
	time.Sleep(steadyAfter) // so that it counts as a connection
	p.mode.Store(noResume)
	p.drop()
	expect(t, notes, "the gap", func(n note) bool { return n.v.Quality != device.Good })
	expect(t, notes, "a value of a new session", func(n note) bool { return n.v.Quality == device.Good })
	if n := p.refused.Load(); n < 1 || n > maxStumbles { // 1: this server says that it keeps sessions for no time
		t.Errorf("%d attempts to go on with the session, want %d at most", n, maxStumbles)
	}
}

// TestWhenASessionIsGivenUp: by the shorter of what the server and the configuration say, or after it was lost twice although the server answered.
func TestWhenASessionIsGivenUp(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		lifetime, configured, away time.Duration
		stumbles                   int
		want                       bool
	}{
		"just away":            {time.Hour, time.Hour, time.Second, 0, false},
		"ended by the server":  {time.Minute, time.Hour, 2 * time.Minute, 0, true},
		"longer than was said": {time.Hour, time.Minute, 2 * time.Minute, 0, true},
		"lost once":            {time.Hour, time.Hour, time.Second, 1, false},
		"lost twice":           {time.Hour, time.Hour, time.Second, 2, true},
	} {
		held := &client{endpoint: &endpoint{config: config{sessionTimeout: c.configured}}, lifetime: c.lifetime, parted: now.Add(-c.away), stumbles: c.stumbles}
		if got := held.over(now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestConnectionsThatEndAtOnce are not made again as fast as the server drops them.
func TestConnectionsThatEndAtOnce(t *testing.T) {
	p := startPeer(t)
	p.mode.Store(brief)
	d := New(Options{})
	s := devicetest.Open(t, d, p.config())
	points := devicetest.Compile(t, d, node("n6", device.TypeDouble))
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		_ = s.Read(t.Context(), points, make([]device.Value, 1))
	}
	// With waits of half a second and more between them; the second may be one that goes on with the session.
	if n := p.accepted.Load(); n < 2 || n > 8 {
		t.Errorf("%d connections within 3 s", n)
	}
}

// TestASubscriptionThatNobodyKnowsIsDeleted: the server has made it, and the answer was lost.
func TestASubscriptionThatNobodyKnowsIsDeleted(t *testing.T) {
	p := startPeer(t)
	d := New(Options{})
	s := devicetest.Open(t, d, p.config("publishingInterval", 50))
	notes := subscribe(t, s, devicetest.Compile(t, d, node("n7", device.TypeDouble)))
	expect(t, notes, "the first value", func(n note) bool { return n.v.Quality == device.Good })
	c, _, err := s.(*session).endpoint.state()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.call(t.Context(), &ua.CreateSubscriptionRequest{RequestedPublishingInterval: 50, RequestedMaxKeepAliveCount: 1, RequestedLifetimeCount: 1000, PublishingEnabled: true}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); p.deletes.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it was not deleted")
		}
	}
	p.set("n7", 8.0)
	expect(t, notes, "a change of what is watched", func(n note) bool { return n.v.Text() == "8" })
	p.set("n7", 7.0)
}
