package opcua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// note is one call of notify.
type note struct {
	i int
	v device.Value
}

// subscribe starts a subscription that ends with the test.
func subscribe(t *testing.T, s device.Session, points []device.Point) <-chan note {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	notes := make(chan note, 1000)
	done := make(chan error, 1)
	go func() {
		done <- s.(device.Subscriber).Subscribe(ctx, points, func(i int, v device.Value) { notes <- note{i, v} })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, device.ErrClosed) {
			t.Errorf("Subscribe ended with %v", err)
		}
	})
	return notes
}

// expect waits for a note that fits.
func expect(t *testing.T, notes <-chan note, what string, fits func(note) bool) note {
	t.Helper()
	deadline := time.After(30 * time.Second)
	var seen []string
	for {
		select {
		case n := <-notes:
			if fits(n) {
				return n
			}
			seen = append(seen, fmt.Sprintf("%d %s %q %s", n.i, n.v.Quality, n.v.Text(), n.v.Reason))
		case <-deadline:
			t.Fatalf("%s did not come; what came: %s", what, strings.Join(seen, " | "))
		}
	}
}

// set changes a value at the server.
func (p *peer) set(name string, value any) {
	id := ua.NewStringNodeID(p.ns.ID(), name)
	_ = p.ns.Node(id).SetAttribute(ua.AttributeIDValue, server.DataValueFromValue(value))
	p.ns.ChangeNotification(id)
}

func TestSubscription(t *testing.T) {
	p := startPeer(t)
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/gopcua/opcua/server.(*Subscription).run"))
	})
	d := New(Options{})
	s := devicetest.Open(t, d, p.config("publishingInterval", 50))
	points := devicetest.Compile(t, d, node("n1", device.TypeDouble), node("n2", device.TypeDouble), node("missing", device.TypeDouble))
	notes := subscribe(t, s, points)
	var first, refusal bool // in any order
	expect(t, notes, "the first value, and the refusal of a node that is not there", func(n note) bool {
		first = first || n.i == 0 && n.v.Quality == device.Good && n.v.Text() == "1"
		refusal = refusal || n.i == 2 && n.v.Quality == device.Bad && strings.Contains(n.v.Reason, "Unknown")
		return first && refusal
	})
	p.set("n2", 2.5)
	expect(t, notes, "a change", func(n note) bool { return n.i == 1 && n.v.Text() == "2.5" && n.v.Quality == device.Good })
	p.kill()
	expect(t, notes, "the gap", func(n note) bool {
		return n.i == 1 && n.v.Quality == device.Uncertain && n.v.Kind() == device.KindNone && n.v.Reason != ""
	})
	expect(t, notes, "the server's absence", func(n note) bool {
		return n.i == 1 && n.v.Quality == device.Bad && strings.Contains(n.v.Reason, p.url())
	})
	p.set("n2", 3.5)
	p.revive()
	expect(t, notes, "the value after the gap", func(n note) bool { return n.i == 1 && n.v.Text() == "3.5" && n.v.Quality == device.Good })
	p.set("n1", 7.0)
	expect(t, notes, "a change after the gap", func(n note) bool { return n.i == 0 && n.v.Text() == "7" })
	p.set("n1", 1.0)
	p.set("n2", 2.0)
}

func TestBlackHoleIsNoticedBySubscriptions(t *testing.T) {
	p := startPeer(t)
	d := New(Options{})
	s := devicetest.Open(t, d, p.config("publishingInterval", 50))
	notes := subscribe(t, s, devicetest.Compile(t, d, node("n3", device.TypeDouble)))
	expect(t, notes, "the first value", func(n note) bool { return n.v.Quality == device.Good })
	p.mode.Store(silent)
	expect(t, notes, "the gap", func(n note) bool { return n.v.Quality == device.Uncertain && strings.Contains(n.v.Reason, "silent") })
	p.revive()
	expect(t, notes, "the value after the gap", func(n note) bool { return n.v.Quality == device.Good })
}

func TestSubscribeRefusedByConfiguration(t *testing.T) {
	p := startPeer(t)
	d := New(Options{})
	s := devicetest.Open(t, d, p.config("subscribe", false))
	err := s.(device.Subscriber).Subscribe(t.Context(), devicetest.Compile(t, d, node("n3", device.TypeDouble)), func(int, device.Value) {})
	var refused *device.NotSubscribableError
	if !errors.As(err, &refused) || len(refused.Points) != 1 {
		t.Errorf("Subscribe: %v", err)
	}
}

// TestDevicesShareAnEndpoint: devices with one configuration have one connection and two goroutines, whatever they watch.
func TestDevicesShareAnEndpoint(t *testing.T) {
	p := startPeer(t)
	d := New(Options{})
	var all []<-chan note
	for range 5 {
		s := devicetest.Open(t, d, p.config("publishingInterval", 50))
		all = append(all, subscribe(t, s, devicetest.Compile(t, d, node("n4", device.TypeDouble))))
	}
	for _, notes := range all {
		expect(t, notes, "the first value", func(n note) bool { return n.v.Quality == device.Good })
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) != 2 { // both sides of the proxy
		t.Errorf("%d connections", len(p.conns)/2)
	}
}
