package kube

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// What one node may make the relay do, however its agent behaves: the API server's patience and the log are shared by all.
const (
	eventsPerSecond = 10 // stored for one node, on average; more wait in its outbox
	eventBurst      = 100
	complaintEvery  = 5 * time.Second // lines about what one node does wrong, on average
	complaintBurst  = 10
	remarkEvery     = 30 * time.Second // lines about what is only odd, so that they leave room for complaints
	remarkBurst     = 3
)

// quota is what is left to one session.
type quota struct {
	events     *rate.Limiter
	complaints *rate.Limiter
	remarks    *rate.Limiter
	unsaid     int // complaints since the last one that was logged; guarded by Sink.mu
}

// quotaOf returns the quota of the node's session, made when it is first needed; nil without a session. s.mu is held.
func (s *Sink) quotaOf(node string) *quota {
	n := s.nodes[node]
	if n == nil || n.session == nil {
		return nil
	}
	if n.session.quota == nil {
		n.session.quota = newQuota()
	}
	return n.session.quota
}

func newQuota() *quota {
	return &quota{
		events:     rate.NewLimiter(eventsPerSecond, eventBurst),
		complaints: rate.NewLimiter(rate.Every(complaintEvery), complaintBurst),
		remarks:    rate.NewLimiter(rate.Every(remarkEvery), remarkBurst),
	}
}

// complain logs what a node did wrong, unless it has filled its share of the log already; the next line that passes says how
// many did not.
func (s *Sink) complain(node string, level slog.Level, message string, attrs ...slog.Attr) {
	s.mu.Lock()
	unsaid := 0
	if q := s.quotaOf(node); q != nil {
		if !q.complaints.Allow() {
			q.unsaid++
			s.mu.Unlock()
			return
		}
		unsaid, q.unsaid = q.unsaid, 0
	}
	s.mu.Unlock()
	attrs = append([]slog.Attr{slog.String("node", node)}, attrs...)
	if unsaid > 0 {
		attrs = append(attrs, slog.Int("unsaidBefore", unsaid))
	}
	s.log.LogAttrs(context.Background(), level, message, attrs...)
}

// remark logs what is odd about a node, and harmless. What does not fit its share of the log is left out; the metrics have it.
func (s *Sink) remark(node string, level slog.Level, message string, attrs ...slog.Attr) {
	s.mu.Lock()
	q := s.quotaOf(node)
	ok := q != nil && q.remarks.Allow()
	s.mu.Unlock()
	if ok {
		s.log.LogAttrs(context.Background(), level, message, append([]slog.Attr{slog.String("node", node)}, attrs...)...)
	}
}

// awaitEvent blocks until the node may store one more event, or ctx ends.
func (s *Sink) awaitEvent(ctx context.Context, node string) error {
	s.mu.Lock()
	var events *rate.Limiter
	if q := s.quotaOf(node); q != nil {
		events = q.events
	}
	s.mu.Unlock()
	if events == nil {
		return ctx.Err()
	}
	if events.Allow() {
		return nil
	}
	s.opts.Metrics.events("paced")
	s.remark(node, slog.LevelWarn, "more events than one node may store; the others wait in its outbox", slog.Int("perSecond", eventsPerSecond))
	return events.Wait(ctx)
}
