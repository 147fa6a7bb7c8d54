package hub

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

// A relay that ends tells its agents so, and where to go. Ten thousand that come to another relay in the same second would be an
// attack; so they are told one after the other, over Options.Drain, and each comes when it likes within a time that grows
// with their number. Those whose streams are in use come last, when the streams have ended or Options.Drain is over.
const (
	drainStep      = 50 * time.Millisecond
	farewell       = 3 * time.Second // after the last was told, for agents that do not close the connection
	requestsEnd    = 3 * time.Second // for requests for certificates that are under way
	arrivals       = 1000            // agents a second that the relays who take them over, or the next one here, are asked to bear
	restartPause   = time.Second     // where nobody else is, this relay has to come back first
	leastSpread    = 500 * time.Millisecond
	farewellReason = "the relay shuts down"
)

// drain ends all sessions, those of agents that do not answer after a while.
func (h *Hub) drain() {
	h.mu.Lock()
	h.closing = true
	h.mu.Unlock()
	agents := h.snapshot() // of a map: in no order
	var elsewhere []string
	if h.opts.Elsewhere != nil {
		elsewhere = h.opts.Elsewhere()
	}
	h.log.Info("sessions are ended", "sessions", len(agents), "over", h.opts.Drain, "elsewhere", elsewhere)
	begun := time.Now()
	spread := max(leastSpread, time.Duration(len(agents))*time.Second/arrivals-h.opts.Drain)
	idle, busy := leave(agents)
	for i, a := range idle {
		if due := h.opts.Drain * time.Duration(i) / time.Duration(len(agents)); due-time.Since(begun) > drainStep {
			time.Sleep(drainStep)
		}
		a.step(farewellTo(elsewhere, i, spread))
	}
	told := len(idle)
	for len(busy) > 0 {
		if time.Since(begun) < h.opts.Drain {
			time.Sleep(drainStep)
			idle, busy = leave(busy)
		} else {
			h.log.Warn("streams are cut, they have not ended in time", "sessions", len(busy), "after", h.opts.Drain)
			idle, busy = busy, nil
		}
		for _, a := range idle {
			a.step(farewellTo(elsewhere, told, spread))
			told++
		}
	}
	hard := time.AfterFunc(farewell, func() {
		for _, a := range h.snapshot() {
			_ = a.ws.CloseNow()
		}
	})
	defer hard.Stop()
	h.all.Wait()
}

// leave lets no streams begin any more, and tells sessions without streams from those whose streams may still end by themselves.
func leave(agents []*agent) (idle, busy []*agent) {
	for _, a := range agents {
		if a.leave() > 0 {
			busy = append(busy, a)
		} else {
			idle = append(idle, a)
		}
	}
	return idle, busy
}

// farewellTo sends the i-th agent to a relay of its own choice of those that remain, at a moment of its own.
func farewellTo(elsewhere []string, i int, spread time.Duration) session.Shut {
	shut := session.Shut{Code: wire.CloseGoingAway, Reason: farewellReason, RetryAfter: rand.N(spread)}
	if n := min(len(elsewhere), wire.MaxElsewhere); n > 0 {
		for k := range n {
			shut.Elsewhere = append(shut.Elsewhere, elsewhere[(i+k)%len(elsewhere)])
		}
	} else {
		shut.RetryAfter += restartPause
	}
	return shut
}

// stop ends the server when the sessions are gone. Requests that are under way are answered.
func (h *Hub) stop(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), requestsEnd)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		h.log.Debug("requests were under way when the relay ended", "err", err)
		_ = srv.Close()
	}
}
