//go:build integration

package opcua

import (
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// TestSessionOutlivesConnection: the server still has the session when the connection is back, so nothing is lost: what it queued meanwhile
// comes with the time at which it was measured, what it sent into the void comes again, and what did not change is good again.
func TestSessionOutlivesConnection(t *testing.T) {
	for _, policy := range []string{"None", "Basic256Sha256"} {
		p := start(t, opcuapeer.Options{Many: 10})
		for _, c := range []struct {
			name        string
			break_, fix func(*proxy)
		}{
			{"cut", (*proxy).cut, (*proxy).mend},
			{"swallowed", (*proxy).swallow, (*proxy).heal},
		} {
			t.Run(policy+" "+c.name, func(t *testing.T) {
				way := newProxy(t, p.Addr())
				d := newDriver(t, p)
				s := devicetest.Open(t, d, config(way.url(), "securityPolicy", policy, "timeout", 2000, "publishingInterval", 100, "samplingInterval", 50, "queueSize", 100))
				f := follow(t, s, devicetest.Compile(t, d, point("N1", device.TypeDouble), point("N2", device.TypeDouble)))
				set := func(node string, v int) {
					t.Helper()
					if err := p.Set(t.Context(), node, float64(v)); err != nil {
						t.Fatal(err)
					}
				}
				set("N1", 1)
				set("N2", 7)
				f.good(t, 0, "1", 30*time.Second)
				f.good(t, 1, "7", 30*time.Second)
				before, err := p.Stats(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_, n := f.last(0)
				_, unchanged := f.last(1)
				broken := time.Now()
				c.break_(way)
				const sets = 30
				for v := range sets {
					set("N1", 100+v)
					time.Sleep(100 * time.Millisecond) // the server samples
				}
				eventually(t, "the gap is marked", 30*time.Second, func() bool { return f.gapMarked(0, n) && f.gapMarked(1, unchanged) })
				fixed := time.Now()
				c.fix(way)
				f.good(t, 0, device.Int(100+sets-1).Text(), 60*time.Second)
				f.good(t, 1, "7", 60*time.Second)
				var last device.Value
				several := 0
				for _, v := range f.since(0, n) {
					if v.Quality != device.Good {
						continue
					}
					if v.AsFloat() < last.AsFloat() || v.Source.Before(last.Source) {
						t.Errorf("%s of %v came after %s of %v", v.Text(), v.Source, last.Text(), last.Source)
					}
					if slack := 5 * time.Millisecond; v.Source.Before(broken.Add(-slack)) || v.Source.After(fixed.Add(slack)) {
						t.Errorf("%s was measured at %v; the connection was away from %v to %v", v.Text(), v.Source, broken, fixed)
					}
					if !v.Same(last) {
						several++
					}
					last = v
				}
				t.Logf("%d of %d values came, the others were not sampled", several, sets)
				if several < sets/5 { // a server that is slow does not sample all
					t.Errorf("%d values came of what the server queued", several)
				}
				after, err := p.Stats(t.Context())
				if err != nil || after.Sessions != before.Sessions || after.Subscriptions != before.Subscriptions || after.Items != before.Items {
					t.Errorf("the server had %+v and has %+v (%v)", before, after, err)
				}
			})
		}
	}
}
