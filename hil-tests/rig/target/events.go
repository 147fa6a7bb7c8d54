package target

import (
	"context"
	"fmt"
	"sync"
)

// events counts what QEMU tells by itself.
type events struct {
	mu      sync.Mutex
	seen    map[string]int
	text    []string // in order, the last ones
	changed chan struct{}
}

// maxEvents is how many of them Keep writes down.
const maxEvents = 1000

func newEvents() *events {
	return &events{seen: map[string]int{}, changed: make(chan struct{})}
}

func (e *events) add(x event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen[x.Event]++
	if len(e.text) < maxEvents {
		e.text = append(e.text, x.Event+" "+string(x.Data))
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *events) count(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen[name]
}

func (e *events) lines() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text[:len(e.text):len(e.text)]
}

// await waits until there were n events of a name in all.
func (e *events) await(ctx context.Context, name string, n int) error {
	for {
		e.mu.Lock()
		have, changed := e.seen[name], e.changed
		e.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for QEMU's event %s: %w", name, context.Cause(ctx))
		}
	}
}
