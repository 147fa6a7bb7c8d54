package kube

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/VictoriaMetrics/metrics"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// bench is an index and a sink on a fake API, running inside a synctest bubble.
type bench struct {
	t     *testing.T
	api   *fakeAPI
	index *Index
	sink  *Sink
	set   *metrics.Set

	mu     sync.Mutex
	gone   []uint64            // epochs that were fenced
	bodies map[wire.Key][]byte // what the agents reported last: they answer when they are asked
	asked  []wire.Key
}

// want is the agent that is asked again.
func (b *bench) want(node string, epoch uint64, keys []wire.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		b.asked = append(b.asked, key)
		if body := b.bodies[key]; body != nil {
			b.sink.Report(node, epoch, key, body)
		}
	}
}

// withBench runs f with index and sink running; time is the bubble's.
func withBench(t *testing.T, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, api: newFakeAPI(), set: metrics.NewSet(), bodies: make(map[wire.Key][]byte)}
		m := NewMetrics(b.set)
		log := slog.New(slog.DiscardHandler)
		b.index = NewIndex(IndexOptions{Client: b.api, Log: log, Metrics: m})
		b.sink = NewSink(SinkOptions{
			Index: b.index, Client: b.api, Statuses: fakeMetadata{b.api}, Relay: "relay-a", Log: log, Metrics: m,
			Want: b.want,
			Fenced: func(_ string, epoch uint64) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.gone = append(b.gone, epoch)
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.index.Run(ctx) })
		wg.Go(func() { _ = b.sink.Run(ctx) })
		synctest.Wait()
		f(b)
		cancel()
		wg.Wait()
	})
}

func (b *bench) start(node string, epoch uint64) {
	b.t.Helper()
	if err := b.sink.SessionStarted(b.t.Context(), node, epoch); err != nil {
		b.t.Fatalf("SessionStarted(%s, %d): %v", node, epoch, err)
	}
}

// report sends a status document given as JSON and waits until the sink has dealt with it.
func (b *bench) report(node string, epoch uint64, key wire.Key, doc string) {
	b.t.Helper()
	body, err := canon.FromJSON([]byte(doc))
	if err != nil {
		b.t.Fatalf("report %s: %v", doc, err)
	}
	b.mu.Lock()
	b.bodies[key] = body
	b.mu.Unlock()
	b.sink.Report(node, epoch, key, body)
	synctest.Wait()
}

func (b *bench) counter(name string) uint64 { return b.set.GetOrCreateCounter(name).Get() }

// field walks obj: strings name map entries, ints list elements.
func field(obj any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := obj.(map[string]any)
			obj = m[p]
		case int:
			l, _ := obj.([]any)
			if p >= len(l) {
				return nil
			}
			obj = l[p]
		}
	}
	return obj
}

// fencedEpochs returns the epochs that were fenced.
func (b *bench) fencedEpochs() []uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.gone)
}

// askedFor returns the keys that agents were asked for.
func (b *bench) askedFor() []wire.Key {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.asked)
}
