package push

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/mappers/device"
)

// TestBackFill: what the history has arrives in order and, with an orderly end, once: through an outage of the target, a restart while it lasts, and values of others.
func TestBackFill(t *testing.T) {
	var h historian
	var down atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	c := newCluster()
	c.apply(t, "pump", object1{"http": object1{"hostName": srv.URL}})
	dir := t.TempDir()
	sealer, err := store.OpenKeyFile(filepath.Join(dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	epoch, made := uint64(0), 0
	var want []string
	run := func(during func(ring *history.History, p *Pusher)) {
		epoch++
		ring, err := history.Open(history.Options{Dir: filepath.Join(dir, "history"), Sealer: sealer, Epoch: epoch, Window: 10 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		p := New(Options{Desired: c, Watch: c, History: ring, Targets: 2, Values: 7, Interval: time.Millisecond, Queue: 10, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		parts.Go(func() { _ = ring.Run(ctx) })
		parts.Go(func() { _ = p.Run(ctx) })
		during(ring, p)
		cancel()
		parts.Wait()
		if err := ring.Close(); err != nil {
			t.Error(err)
		}
	}
	record := func(ring *history.History, n int) {
		for range n {
			made++
			ring.Record("ns", "other", "p", device.Int(int64(-made)).At(time.Now()))
			ring.Record("ns", "pump", "p", device.Int(int64(made)).At(time.Now()))
			want = append(want, fmt.Sprintf("pump=%d", made))
		}
	}
	all := func() bool { return h.has(want...) }
	failing := func(p *Pusher) bool {
		return slices.ContainsFunc(p.Status(), func(s TargetStatus) bool { return !s.Failing.IsZero() && s.Waiting > 0 && s.From == "history" })
	}
	run(func(ring *history.History, p *Pusher) {
		record(ring, 30)
		within(t, "the first values", all)
		down.Store(true)
		record(ring, 40)
		within(t, "it says that it fails", func() bool { return failing(p) })
	})
	run(func(ring *history.History, p *Pusher) {
		record(ring, 20)
		within(t, "it says that it fails, after the restart", func() bool { return failing(p) })
		down.Store(false)
		within(t, fmt.Sprintf("all %d values, in order and once", len(want)), all)
		within(t, "nothing waits", func() bool {
			s := p.Status()
			return len(s) == 1 && s[0].Waiting == 0 && s[0].Sent == 60 && s[0].Failing.IsZero() && s[0].LagSeconds == 0
		})
	})
	run(func(ring *history.History, _ *Pusher) {
		record(ring, 1)
		within(t, "nothing twice", all)
	})
}
