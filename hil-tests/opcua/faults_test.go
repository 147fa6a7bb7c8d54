//go:build integration

package opcua

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/opcua"
)

// TestConformance runs the suite of package device against node-opcua, through a proxy that can be cut. It hangs by SIGSTOP: the suite
// looks for goroutines that are left, and toxiproxy leaves some when a toxic goes.
func TestConformance(t *testing.T) {
	peer := start(t, opcuapeer.Options{})
	devicetest.Run(t, func(t *testing.T) devicetest.Subject {
		way := newProxy(t, peer.Addr())
		dead, hung := false, false
		check := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		t.Cleanup(func() { check(peer.Resume()) })
		return devicetest.Subject{
			Driver: newDriver(t, peer), Config: config(way.url(), "securityPolicy", "Basic256Sha256", "timeout", 1000),
			Read:  []device.PointConfig{point("Double", device.TypeDouble), point("UInt16", device.TypeInt), point("String", device.TypeString)},
			Write: point("N5", device.TypeDouble), Values: [2]device.Value{device.Float(2.5), device.Float(-7)},
			Kill: func() {
				dead = true
				way.cut()
			},
			Hang: func() {
				hung = true
				check(peer.Pause())
			},
			Revive: func() {
				if dead {
					way.mend()
				}
				if hung {
					check(peer.Resume())
				}
			},
			Recovery:    20 * time.Second,
			BadConfigs:  []devicetest.Bad{{Name: "no url", Data: nil, Field: "url"}},
			BadVisitors: []devicetest.Bad{{Name: "no node", Data: devicetest.Data("indexRange", "1"), Field: "nodeID"}},
		}
	})
}

// follower keeps what a subscription said.
type follower struct {
	mu     sync.Mutex
	values map[int][]device.Value
}

// follow subscribes until the test ends.
func follow(t *testing.T, s device.Session, points []device.Point) *follower {
	t.Helper()
	sub, ok := s.(device.Subscriber)
	if !ok {
		t.Fatal("sessions do not subscribe")
	}
	f := &follower{values: make(map[int][]device.Value)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- sub.Subscribe(ctx, points, func(i int, v device.Value) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.values[i] = append(f.values[i], v)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, device.ErrClosed) {
			t.Errorf("Subscribe: %v", err)
		}
	})
	return f
}

func (f *follower) last(i int) (v device.Value, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n = len(f.values[i]); n > 0 {
		v = f.values[i][n-1]
	}
	return v, n
}

// since returns what came after the first n values.
func (f *follower) since(i, n int) []device.Value {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]device.Value(nil), f.values[i][n:]...)
}

// good waits for a good value with this text; any text if it is empty.
func (f *follower) good(t *testing.T, i int, text string, within time.Duration) {
	t.Helper()
	_, n := f.last(i)
	eventually(t, "a good value "+text, within, func() bool {
		v, now := f.last(i)
		return v.Quality == device.Good && (text != "" && v.Text() == text || text == "" && now > n)
	})
}

// gapMarked tells whether a value after the first n says that some were lost.
func (f *follower) gapMarked(i, n int) bool {
	for _, v := range f.since(i, n) {
		if v.Quality != device.Good && v.Reason != "" {
			return true
		}
	}
	return false
}

// TestFaults: whatever happens to the connection, the server or its session, subscribed values come back, and the gap is marked.
func TestFaults(t *testing.T) {
	p := start(t, opcuapeer.Options{})
	way := newProxy(t, p.Addr())
	d := newDriver(t, p)
	s := devicetest.Open(t, d, config(way.url(), "securityPolicy", "Basic256Sha256", "timeout", 2000, "publishingInterval", 100))
	cfgs := []device.PointConfig{point("Counter", device.TypeInt), point("N1", device.TypeDouble)}
	for range 500 {
		cfgs = append(cfgs, point("N2", device.TypeDouble))
	}
	f := follow(t, s, devicetest.Compile(t, d, cfgs...))
	set := func(v float64, text string) {
		t.Helper()
		for _, node := range []string{"N1", "N2"} {
			if err := p.Set(t.Context(), node, v); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range []int{1, 2, len(cfgs) - 1} {
			f.good(t, i, text, 30*time.Second)
		}
		f.good(t, 0, "", 30*time.Second)
	}
	set(1.5, "1.5")
	for k, c := range []struct {
		name        string
		break_, fix func() error
		gap         bool
	}{
		{"the connection is cut", func() error { way.cut(); return nil }, func() error { way.mend(); return nil }, true},
		{"the connection is swallowed", func() error { way.swallow(); return nil }, func() error { way.heal(); return nil }, true},
		{"the server hangs", p.Pause, p.Resume, true},
		{"the server ends all sessions", func() error { _, err := p.Logout(t.Context()); return err }, func() error { return nil }, false},
		{"the server forgets its subscriptions", func() error { _, err := p.Forget(t.Context()); return err }, func() error { return nil }, false},
		{"the server is killed and starts again", p.Kill, func() error { return p.Restart(context.WithoutCancel(t.Context())) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, n := f.last(0)
			if err := c.break_(); err != nil {
				t.Fatal(err)
			}
			if c.gap {
				eventually(t, "the loss is noticed", 20*time.Second, func() bool { return f.gapMarked(0, n) })
			}
			if err := c.fix(); err != nil {
				t.Fatal(err)
			}
			value := float64(10 + k)
			set(value, device.Float(value).Text())
			if !f.gapMarked(0, n) {
				t.Error("the gap is not marked")
			}
		})
	}
	if got, err := p.Stats(t.Context()); err != nil || got.Items != int64(len(cfgs)) {
		t.Errorf("after all that the server has %+v (%v), want %d items", got, err, len(cfgs))
	}
}

// TestReplacedCertificate: an expired certificate is refused though it is trusted, and the one that replaces it is a stranger.
func TestReplacedCertificate(t *testing.T) {
	now := time.Now()
	certificate := func(from, to time.Time) *opcuapeer.Certificate {
		c, err := opcuapeer.NewCertificate(opcuapeer.ApplicationURI, from, to)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	p := start(t, opcuapeer.Options{Many: 10, Certificate: certificate(now.Add(-2*time.Hour), now.Add(-time.Hour))})
	d := opcua.New(opcua.Options{StateDir: t.TempDir()})
	s := devicetest.Open(t, d, config(p.URL(), "securityPolicy", "Basic256Sha256", "timeout", 2000))
	points := devicetest.Compile(t, d, point("Int32", device.TypeInt))
	says := func(want string) {
		t.Helper()
		var err error
		for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if err = s.Read(t.Context(), points, make([]device.Value, 1)); err != nil && want != "" && strings.Contains(err.Error(), want) || err == nil && want == "" {
				return
			}
		}
		t.Fatalf("reading says %v, want %q", err, want)
	}
	says("BadCertificateUntrusted")
	trustAll(t, d)
	says("BadCertificateTimeInvalid")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	p.UseCertificate(certificate(now.Add(-time.Hour), now.Add(24*time.Hour)))
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	says("BadCertificateUntrusted")
	trustAll(t, d)
	says("")
}

// trustAll trusts what was rejected.
func trustAll(t *testing.T, d *opcua.Driver) {
	t.Helper()
	list, err := d.Certificates()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.State == "rejected" {
			if err := d.Trust(c.Fingerprint); err != nil {
				t.Fatal(err)
			}
		}
	}
}
