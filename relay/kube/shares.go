package kube

import (
	"context"
	"time"
)

// What the API server is asked to bear, and how nodes share it (docs/adr/0016-write-shares.md). All nodes together have the relay's
// budget, SinkOptions.QPS. Each is assured nodeShare of it. What is left, nodes may use beyond that for their devices, each up to SinkOptions.NodeQPS in all:
// after all that are within their shares, while half of the budget's burst is untouched, and with no more than half of the writers.

const (
	nodeShare = 20  // writes a second that one node is assured
	nodeBurst = 100 // and at once. Readiness may go as much again into debt; of what it causes in all, this much is free of NodeQPS
)

// bucket counts what was spent and not yet regained.
type bucket struct {
	spent float32
	at    int64 // when spent was brought up to date, Unix ns
}

// take brings the bucket up to date and spends n.
func (b *bucket) take(n, perSecond float64, now time.Time) {
	t := now.UnixNano()
	if b.spent > 0 {
		passed := max(0, t-b.at) // the clock may have been set back
		b.spent = max(0, b.spent-float32(float64(passed)/float64(time.Second)*perSecond))
	}
	b.spent, b.at = b.spent+float32(n), t
}

// wait returns how long it takes until one more fits.
func (b *bucket) wait(burst, perSecond float64, now time.Time) time.Duration {
	b.take(0, perSecond, now)
	over := float64(b.spent) + 1 - burst
	if over <= 0 {
		return 0
	}
	return time.Duration(over / perSecond * float64(time.Second))
}

// assured returns how long the node has to wait until its share allows another write.
func (n *nodeState) assured(low bool, now time.Time) time.Duration {
	if low {
		return n.share.wait(nodeBurst, nodeShare, now)
	}
	return n.share.wait(2*nodeBurst, nodeShare, now)
}

// ceiling returns how long the node has to wait until it may write beyond its share, if there is room.
func (s *Sink) ceiling(n *nodeState, now time.Time) time.Duration {
	return n.all.wait(nodeBurst, s.opts.NodeQPS, now)
}

// spare reports whether there are writers for more than the first write of a node within its share: half of them are kept for that, so that
// a slow API server is not slow for one node because of another.
func (s *Sink) spare() bool { return s.underWay < (s.opts.Writers+1)/2 }

// room reports whether somebody may write beyond its share now. If that is only a matter of time, whoever waits is woken then.
func (s *Sink) room(now time.Time) bool {
	if !s.spare() {
		return false // done looks again
	}
	if s.budget == nil {
		return true
	}
	lacking := max(1, float64(s.opts.Burst)/2) - s.budget.TokensAt(now)
	if lacking <= 0 {
		return true
	}
	if !s.waking {
		s.waking = true
		s.setAlarm(nil, now.Add(time.Duration(lacking/s.opts.QPS*float64(time.Second))+time.Microsecond))
	}
	return false
}

// spend is called before every write of a report: it records the session's claim, if that is in memory only, and takes a request out
// of the budgets, that of the node and that of the relay, for which it waits.
func (s *Sink) spend(ctx context.Context, w *work) error {
	if err := s.record(ctx, w.n, w.epoch); err != nil {
		return err
	}
	now := time.Now()
	s.mu.Lock()
	w.n.all.take(1, s.opts.NodeQPS, now)
	if !w.beyond {
		w.n.share.take(1, nodeShare, now)
	}
	s.mu.Unlock()
	s.opts.Metrics.spent(w.beyond)
	if s.budget == nil {
		return nil
	}
	return s.budget.Wait(ctx)
}
