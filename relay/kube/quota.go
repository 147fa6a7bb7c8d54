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
)

// quota is what is left to one session.
type quota struct {
	events     *rate.Limiter
	complaints *rate.Limiter
	unsaid     int // complaints since the last one that was logged; guarded by Sink.mu
}

func newQuota() quota {
	return quota{
		events:     rate.NewLimiter(eventsPerSecond, eventBurst),
		complaints: rate.NewLimiter(rate.Every(complaintEvery), complaintBurst),
	}
}

// complain logs what a node did wrong, unless it has filled its share of the log already; the next line that passes says how
// many did not.
func (s *Sink) complain(node string, level slog.Level, message string, attrs ...slog.Attr) {
	s.mu.Lock()
	unsaid := 0
	if sess := s.sessions[node]; sess != nil {
		if !sess.complaints.Allow() {
			sess.unsaid++
			s.mu.Unlock()
			return
		}
		unsaid, sess.unsaid = sess.unsaid, 0
	}
	s.mu.Unlock()
	attrs = append([]slog.Attr{slog.String("node", node)}, attrs...)
	if unsaid > 0 {
		attrs = append(attrs, slog.Int("unsaidBefore", unsaid))
	}
	s.log.LogAttrs(context.Background(), level, message, attrs...)
}

// awaitEvent blocks until the node may store one more event, or ctx ends.
func (s *Sink) awaitEvent(ctx context.Context, node string) error {
	s.mu.Lock()
	var events *rate.Limiter
	if sess := s.sessions[node]; sess != nil {
		events = sess.events
	}
	s.mu.Unlock()
	if events == nil {
		return ctx.Err()
	}
	return events.Wait(ctx)
}
