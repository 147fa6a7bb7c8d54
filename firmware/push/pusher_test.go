package push

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/mappers/device"
)

// cluster is a Desired and a Watch.
type cluster struct {
	mu      sync.Mutex
	objects map[wire.Key]wire.Object
	changed []wire.Key
	c       chan struct{}
}

func newCluster() *cluster {
	return &cluster{objects: map[wire.Key]wire.Object{}, c: make(chan struct{}, 1)}
}

func (c *cluster) Get(k wire.Key) (wire.Object, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.objects[k]
	return o, ok
}

func (c *cluster) List(wire.Kind) (out []wire.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.objects {
		out = append(out, o)
	}
	return out
}

func (c *cluster) C() <-chan struct{} { return c.c }

func (c *cluster) Take() []wire.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.changed
	c.changed = nil
	return out
}

// apply makes a Device whose property p has a pushMethod; nil removes it.
func (c *cluster) apply(t *testing.T, name string, method object1) {
	t.Helper()
	key := wire.NewKey(wire.KindDevice, "ns", name, "")
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.objects, key); method != nil {
		body, err := canon.FromValue(object1{"metadata": object1{"name": name, "namespace": "ns"}, "spec": object1{"properties": []any{object1{"name": "p", "pushMethod": method}}}})
		if err != nil {
			t.Fatal(err)
		}
		c.objects[key] = wire.Object{Key: key, Body: body}
	}
	c.changed = append(c.changed, key)
	select {
	case c.c <- struct{}{}:
	default:
	}
}

// historian takes what is posted.
type historian struct {
	mu  sync.Mutex
	got []string
}

func (h *historian) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var body struct {
		Values []struct {
			Device string
			Value  any
		}
	}
	b, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(b, &body)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range body.Values {
		text, _ := json.Marshal(v.Value)
		h.got = append(h.got, v.Device+"="+string(text))
	}
}

func (h *historian) has(values ...string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Equal(h.got, values)
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// TestTargetsComeAndGo: one that hangs delays no other, one too many is said, one that no Device names is stopped.
func TestTargetsComeAndGo(t *testing.T) {
	var h historian
	srv := httptest.NewServer(&h)
	defer srv.Close()
	hang := bad(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	c := newCluster()
	c.apply(t, "good", object1{"http": object1{"hostName": srv.URL}})
	c.apply(t, "hangs", object1{"http": object1{"hostName": "http://" + hang}})
	p := New(Options{Desired: c, Watch: c, Targets: 2, Values: 10, Interval: time.Millisecond, Queue: 10, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	within(t, "two targets run", func() bool { return len(p.Status()) == 2 })
	p.Offer("ns", "hangs", "p", device.Int(1))
	p.Offer("ns", "good", "p", device.Int(2))
	p.Offer("ns", "unknown", "p", device.Int(3))
	within(t, "the good one gets its value", func() bool { return h.has("good=2") })

	c.apply(t, "third", object1{"http": object1{"hostName": "http://127.0.0.1", "port": int64(9)}})
	within(t, "one too many is said", func() bool {
		return slices.ContainsFunc(p.Status(), func(s TargetStatus) bool { return strings.Contains(s.LastError, "devices.push.maxTargets is 2") })
	})
	c.apply(t, "hangs", nil)
	within(t, "its place is taken", func() bool {
		s := p.Status()
		return len(s) == 2 && !slices.ContainsFunc(s, func(s TargetStatus) bool { return strings.Contains(s.Address, hang) || s.From == "" })
	})
	c.apply(t, "more", object1{"http": object1{"hostName": srv.URL}}) // the same target
	within(t, "it serves two devices", func() bool {
		return slices.ContainsFunc(p.Status(), func(s TargetStatus) bool { return s.Properties == 2 })
	})
	p.Offer("ns", "more", "p", device.Int(4))
	within(t, "both come", func() bool { return h.has("good=2", "more=4") })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := p.Status(); len(s) != 0 {
		t.Errorf("after the end: %+v", s)
	}
}
