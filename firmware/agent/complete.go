package agent

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/firmware/store"
)

// completeKey is in the store once a relay has told this gateway all that it should hold.
const completeKey = "agent/complete"

// completeness knows whether the desired view is whole. A store that is new (the flash was replaced) or was found damaged may lack
// pods that run and should go on running: nothing may be taken for unwanted before a relay has told everything anew. The mark
// is durable, because a damaged store is mended at once, and the next start finds no damage any more.
type completeness struct {
	store  *store.Store
	inSync func() bool
	log    *slog.Logger
	whole  atomic.Bool
}

func newCompleteness(ctx context.Context, s *store.Store, inSync func() bool, log *slog.Logger) *completeness {
	c := &completeness{store: s, inSync: inSync, log: log}
	_, marked, err := s.Get(store.SpaceMeta, completeKey)
	found := s.Recovery()
	// A log that was truncated looks as if its last write had been cut off, so that counts here, too: it costs nothing, since
	// after a power cut nothing runs that could be unwanted.
	damaged := slices.ContainsFunc(found.Findings, func(f store.Finding) bool { return f.What != store.KeyRepaired })
	if marked && damaged {
		var b store.Batch
		b.Delete(store.SpaceMeta, completeKey)
		if err := s.Commit(ctx, b); err != nil {
			log.Warn("that the store was damaged could not be noted: if the agent is restarted before it reaches a relay, pods that the store lost may be stopped", "error", err)
		}
	}
	c.whole.Store(marked && err == nil && !damaged)
	if !found.Clean() {
		log.Warn("the store was damaged: what it lost comes again from the relay; until then no running pod is stopped for being unknown")
	}
	return c
}

// Complete reports whether what is not desired is unwanted. It may be called by any goroutine.
func (c *completeness) Complete() bool { return c.whole.Load() }

// run marks the view as whole when a session is in sync, and then waits for ctx.
func (c *completeness) run(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !c.whole.Load() {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !c.inSync() {
			continue
		}
		var b store.Batch
		b.Put(store.SpaceMeta, completeKey, []byte{1})
		if err := c.store.Commit(ctx, b); err != nil {
			c.log.Debug("the desired view is whole, and that could not be noted yet", "error", err)
		}
		c.whole.Store(true) // it is, whether or not the next start knows
	}
	<-ctx.Done()
	return nil
}
