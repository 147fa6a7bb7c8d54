package hub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/skerry/skerry/relay/source"
)

// What is refused is counted each time and logged once a minute for each node (or source address) and reason: whoever is refused a
// thousand times a second must not fill the log, nor hide in it.
const (
	refusalWindow  = time.Minute
	refusalsKept   = 4096 // pairs of who and why; above, the oldest are forgotten
	linesPerSecond = 20   // of all together: somebody may come from thousands of addresses
	linesBurst     = 200
)

// refusals tells the operator what is refused. Safe for concurrent use.
type refusals struct {
	log   *slog.Logger
	lines *rate.Limiter

	mu   sync.Mutex
	said map[refusalKey]*refusalSaid
}

type refusalKey struct{ who, reason string }

type refusalSaid struct {
	at     time.Time
	unsaid int // since at
}

func newRefusals(log *slog.Logger) *refusals {
	return &refusals{log: log, lines: rate.NewLimiter(linesPerSecond, linesBurst), said: make(map[refusalKey]*refusalSaid)}
}

// refusal is one thing that is refused.
type refusal struct {
	reason  string
	node    string // "" if it is not known who it is
	remote  string // HOST:PORT
	detail  string
	routine bool // happens to honest agents, too
}

// tell logs r unless the same was logged within the window.
func (s *refusals) tell(r refusal, now time.Time) {
	who := r.node
	if who == "" {
		who = source.Of(r.remote)
	}
	unsaid, ok := s.due(refusalKey{who, r.reason}, now)
	if !ok {
		return
	}
	level := slog.LevelWarn
	if r.routine {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{slog.String("node", r.node), slog.String("remote", r.remote), slog.String("reason", r.reason), slog.String("detail", r.detail)}
	if unsaid > 0 {
		attrs = append(attrs, slog.Int("unsaidBefore", unsaid))
	}
	s.log.LogAttrs(context.Background(), level, "refused", attrs...)
}

func (s *refusals) due(k refusalKey, now time.Time) (unsaid int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.said[k]
	if e == nil {
		if len(s.said) >= refusalsKept {
			s.forget(now)
		}
		e = &refusalSaid{}
		s.said[k] = e
	} else if now.Sub(e.at) < refusalWindow {
		e.unsaid++
		return 0, false
	}
	if !s.lines.AllowN(now, 1) {
		e.unsaid++
		return 0, false
	}
	unsaid, e.unsaid, e.at = e.unsaid, 0, now
	return unsaid, true
}

// forget drops what was said longer ago than the window, and everything if that frees too little.
func (s *refusals) forget(now time.Time) {
	for k, e := range s.said {
		if now.Sub(e.at) >= refusalWindow {
			delete(s.said, k)
		}
	}
	if len(s.said) > refusalsKept*3/4 {
		clear(s.said)
	}
}

// refuse counts and tells of a connection that does not become a session.
func (h *Hub) refuse(reason, node, remote, format string, args ...any) {
	h.meter.refused(reason)
	h.refusals.tell(refusal{reason: reason, node: node, remote: remote, detail: fmt.Sprintf(format, args...)}, time.Now())
}

// refuse counts and tells of what a session is not given.
func (a *agent) refuse(reason, detail string, routine bool) {
	a.h.meter.sessionRefused(reason)
	a.h.refusals.tell(refusal{reason: reason, node: a.node, remote: a.remote, detail: detail, routine: routine}, time.Now())
}
