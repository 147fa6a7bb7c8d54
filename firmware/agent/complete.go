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

// completeness knows whether the desired view is whole. A store that is new (the flash was replaced) or was found damaged, at its
// opening or later, may lack pods that run and should go on running: nothing may be taken for unwanted before a relay has told
// everything anew, in a session that began after the loss. The mark is durable, because a damaged store is mended at once,
// and the next start finds no damage any more.
type completeness struct {
	store   *store.Store
	found   func() store.Recovery               // store's; a test gives its own
	session func() (number uint64, inSync bool) // number counts the sessions since the start
	log     *slog.Logger
	whole   atomic.Bool
	seen    atomic.Int64 // findings of the store that whole takes into account
}

func newCompleteness(ctx context.Context, s *store.Store, session func() (uint64, bool), log *slog.Logger) *completeness {
	c := &completeness{store: s, found: s.Recovery, session: session, log: log}
	_, marked, err := s.Get(store.SpaceMeta, completeKey)
	found := s.Recovery()
	c.seen.Store(findings(found))
	// A log that was truncated looks as if its last write had been cut off, so that counts here, too: it costs nothing, since
	// after a power cut nothing runs that could be unwanted.
	damaged := slices.ContainsFunc(found.Findings, func(f store.Finding) bool { return f.What != store.KeyRepaired })
	if marked && damaged {
		c.unmark(ctx)
	}
	c.whole.Store(marked && err == nil && !damaged)
	if !found.Clean() {
		log.Warn("the store was damaged: what it lost comes again from the relay; until then no running pod is stopped for being unknown")
	}
	return c
}

func findings(r store.Recovery) int64 { return int64(len(r.Findings) + r.More) }

// Complete reports whether what is not desired is unwanted. It may be called by any goroutine.
func (c *completeness) Complete() bool {
	return c.whole.Load() && findings(c.found()) == c.seen.Load()
}

// run marks the view as whole once a session is in sync that began after the last loss, until ctx ends.
func (c *completeness) run(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var lostIn uint64 // number of the session during which something was lost
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		number, inSync := c.session()
		if n := findings(c.found()); n != c.seen.Load() {
			c.whole.Store(false)
			c.seen.Store(n)
			lostIn = number
			c.unmark(ctx)
			c.log.Warn("the store lost something: it comes again with the next session; until then no running pod is stopped for being unknown")
		}
		if !c.whole.Load() && inSync && number > lostIn {
			c.mark(ctx)
			c.whole.Store(true) // it is, whether or not the next start knows
		}
	}
}

func (c *completeness) mark(ctx context.Context) {
	var b store.Batch
	b.Put(store.SpaceMeta, completeKey, []byte{1})
	if err := c.store.Commit(ctx, b); err != nil {
		c.log.Debug("the desired view is whole, and that could not be noted yet", "error", err)
	}
}

func (c *completeness) unmark(ctx context.Context) {
	var b store.Batch
	b.Delete(store.SpaceMeta, completeKey)
	if err := c.store.Commit(ctx, b); err != nil {
		c.log.Warn("that the store was damaged could not be noted: if the agent is restarted before it reaches a relay, pods that the store lost may be stopped", "error", err)
	}
}
