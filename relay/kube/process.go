package kube

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// work is a report taken out of its session for one attempt to write it.
type work struct {
	item
	n       *nodeState
	epoch   uint64
	body    []byte
	hash    [16]byte
	serial  uint64
	stated  uint64
	low     bool
	beyond  bool   // its node has used up its share
	base    uint64 // newest revision of the object that was compared with or written
	top     uint64 // newest revision of any object that was written
	settled [16]byte
	hasNode bool
	// foreign says that revisions cannot be relied on: the cluster was restored since the Lease was last found to be the session's.
	foreign   bool
	confirmed bool // the Lease was found to be the session's
}

// outcome says what becomes of a report after an attempt.
type outcome int

const (
	written     outcome = iota // the API shows what it says
	unwritable                 // it cannot be written as things are: forget it, and ask for it again when the object changes
	dropReport                 // it can never be written, or its object is gone
	awaitObject                // its object is not known (yet)
	lowerLane                  // what is left of it is statistics
)

const (
	// objectPatience is how long a report waits for an object that the cache does not hold: another relay, whose cache was
	// ahead, may have told the agent of it.
	objectPatience = time.Minute

	retryFirst = 50 * time.Millisecond // doubled with each failure
	retryMost  = 30 * time.Second
)

func (s *Sink) process(ctx context.Context, w *work) {
	if ctx.Err() != nil {
		return
	}
	result, err := s.write(ctx, w)
	var (
		wait waitError
		big  oversizedError
	)
	switch {
	case err == nil:
	case errors.As(err, &big):
		s.refused(w.node, w.key, big.why)
		result = dropReport
	case errors.As(err, &wait):
		s.postpone(w, wait.for_, false)
		return
	case errors.Is(err, errFenced):
		s.fence(w.node, w.epoch)
		return
	case permanent(err):
		s.opts.Metrics.failure(string(w.key.Kind()))
		s.complain(w.node, slog.LevelError, "the API server refuses what the agent reports; dropped until it reports something else",
			slog.String("key", string(w.key)), slog.Any("error", err))
		result = dropReport
	case ctx.Err() != nil:
		return
	default:
		s.opts.Metrics.failure(string(w.key.Kind()))
		if s.trouble.allow() {
			s.log.Warn("cannot write to the API server; the newest report of each object is kept and retried",
				slog.String("node", w.node), slog.String("key", string(w.key)), slog.Int("queued", s.depth()), slog.Any("error", err))
		}
		s.postpone(w, 0, true)
		return
	}
	s.finish(w, result)
}

func (s *Sink) depth() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// current returns the entry that w was taken from, if the session is still the same, and its pending report. Of base, what the
// attempt has learned is noted in any case.
func (s *Sink) current(w *work) (*entry, *pending) {
	e := w.n.entry(w.key)
	if e == nil {
		return nil, nil
	}
	if w.base != 0 {
		e.base = max(e.base, w.base)
	}
	if sess := w.n.session; sess == nil || sess.epoch != w.epoch {
		return nil, nil
	}
	if w.hasNode {
		w.n.session.hasNode = true
	}
	if w.confirmed {
		e.foreign = false
	}
	return e, e.work
}

// postpone tries again after a time, longer and longer if it failed. A report that came meanwhile takes over where the attempt
// stood.
func (s *Sink) postpone(w *work, d time.Duration, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, p := s.current(w)
	if p == nil {
		return
	}
	if p.serial == w.serial {
		p.stated = w.stated
	}
	p.low = w.low
	if failed {
		d = min(retryFirst<<min(p.attempts, 20), retryMost)
		p.attempts = min(p.attempts+1, 20)
	}
	p.notBefore = time.Now().Add(d)
}

func (s *Sink) finish(w *work, result outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, p := s.current(w)
	if p == nil {
		return
	}
	if p.serial != w.serial { // a newer one came meanwhile, and is queued
		if result == written {
			p.since = p.serial
		}
		return
	}
	p.attempts = 0
	again := max(w.base, w.top) < p.seen // somebody else wrote after us
	switch result {
	case awaitObject:
		if p.seen > 0 {
			break
		}
		if p.missing.IsZero() {
			p.missing = time.Now()
		} else if time.Since(p.missing) >= objectPatience {
			s.forget(w.n, w.key)
			break
		}
		p.awaiting, p.notBefore = true, time.Now().Add(objectPatience)
	case lowerLane:
		p.low, p.stated = true, w.stated
	case dropReport:
		s.forget(w.n, w.key)
	case unwritable:
		s.drop(w.n, e)
		if again {
			s.askFor(w.n, e)
		}
	case written:
		if again {
			p.low, p.stated = false, 0
			break
		}
		e.hash = w.hash
		if w.settled != [16]byte{} {
			if w.n.settled == nil {
				w.n.settled = make(map[wire.Key][16]byte)
			}
			w.n.settled[w.key] = w.settled
		}
		s.drop(w.n, e)
	}
	if w.n.session.ended {
		s.sweep(w.n)
	}
}

// sweep ends a session for good once everything that it reported is written.
func (s *Sink) sweep(n *nodeState) {
	if n.session == nil || !n.session.ended || n.pendingReports() > 0 {
		return
	}
	n.session = nil
	s.prune(n)
	s.release(n)
}
