package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/hub/socket"
	"github.com/skerry/skerry/relay/session"
)

// agent is the shell around one session: its socket, and the goroutines that it borrows. There are ten thousand of them: what an
// idle one holds is the relay's memory.
type agent struct {
	h      *Hub
	ws     *socket.Conn
	node   string
	remote string
	cert   facts
	epoch  uint64
	since  time.Time
	unsub  func()

	mu      sync.Mutex // before q.mu
	machine *session.Machine
	counted session.Stats
	streams *streams // nil before the first stream
	leaving bool     // no streams are opened any more
	started bool     // Sink.SessionStarted has returned nil, and SessionEnded has not been called

	hungUp bool         // for the pump, which is one goroutine at a time
	broken bool         // a write has failed, nothing more can be written; for the pump
	hungAt atomic.Int64 // Unix time in ns of the hang-up, 0 before

	receiving sync.Mutex // messages are fed to the machine in order; before mu
	q         queue
}

const (
	writePatience = 30 * time.Second // for an agent that takes nothing of what is written to it
	closePatience = 5 * time.Second  // for an agent to close the connection after it was told to
)

func newAgent(h *Hub, ws *socket.Conn, node, remote string, cert facts) *agent {
	a := &agent{h: h, ws: ws, node: node, remote: remote, cert: cert, since: time.Now()}
	a.q.room.L = &a.q.mu
	return a
}

// begin starts the session after it was registered.
func (a *agent) begin() {
	a.mu.Lock()
	a.machine = session.New(session.Config{Node: a.node, Epoch: a.epoch, Shared: a.h.shared}, a.since)
	a.mu.Unlock()
	a.unsub = a.h.opts.Source.Subscribe(a.node, a.notify)
	go a.read() // waited for by Hub.all
}

// read is the one goroutine that an idle session has. It has no deadline: the machine counts heartbeats. It hands messages on
// rather than handling them, because a stack that has grown once stays large.
func (a *agent) read() {
	defer a.end()
	for {
		if err := a.ws.Wait(); err != nil {
			a.lost(err)
			return
		}
		if a.hungAt.Load() != 0 {
			a.ws.Discard() // the agent closes the connection when it has read why
			return
		}
		buf := a.h.bufs.Get().(*[]byte)
		b, err := a.ws.Read((*buf)[:0], a)
		*buf = b
		if err != nil {
			a.h.recycle(buf)
			a.lost(err)
			return
		}
		a.h.meter.received(len(b))
		a.deliver(buf)
	}
}

// Heard implements socket.Listener: a message that takes longer than the machine would wait for it has got on.
func (a *agent) Heard() { a.step(session.Heard{}) }

// lost ends the session because nothing more can be read.
func (a *agent) lost(err error) {
	var ce *socket.CloseError
	switch {
	case errors.Is(err, socket.ErrTooBig):
		a.step(session.Shut{Code: wire.CloseLimit, Reason: err.Error(), RetryAfter: 30 * time.Second})
	case errors.Is(err, socket.ErrProtocol):
		a.step(session.Shut{Code: wire.CloseProtocol, Reason: "WebSocket: " + err.Error()})
	default:
		if !errors.Is(err, io.EOF) && !errors.As(err, &ce) {
			a.h.log.Debug("connection broke", "node", a.node, "err", err)
		}
		a.step(session.Lost{})
		return
	}
	a.ws.Discard() // until the agent has closed the connection, or tick does
}

// end cleans up when the socket is gone.
func (a *agent) end() {
	a.unsub()
	a.q.finish()
	_ = a.ws.CloseNow()
	a.endStreams("the connection was lost")
	a.mu.Lock()
	started := a.started
	a.started = false
	a.mu.Unlock()
	if started {
		a.h.opts.Sink.SessionEnded(a.node, a.epoch)
	}
	a.h.unregister(a)
}

// step feeds the machine; the pump carries out what it wants.
func (a *agent) step(ev session.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.machine == nil { // replaced before it began
		_ = a.ws.CloseNow()
		return
	}
	acts := a.machine.Step(ev, time.Now())
	a.count()
	if len(acts) == 0 {
		return
	}
	if end, ok := acts[len(acts)-1].(session.Hangup); ok && end.Code == wire.CloseLimit {
		// At once: what waits to be written may wait for an agent that does not read.
		a.h.visits.keepOut(a.node, end.RetryAfter, time.Now())
	}
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	a.q.actions = append(a.q.actions, acts...)
	clear(acts) // a machine keeps them until its next step: a report, say, for one heartbeat
	a.wakeLocked()
}

func (a *agent) count() {
	now := a.machine.Stats()
	if now != a.counted {
		a.h.meter.stats(a.counted, now)
		a.counted = now
	}
}

// tick gives the session its time.
func (a *agent) tick(now time.Time) {
	if since := a.ws.WritingSince(); !since.IsZero() && now.Sub(since) > writePatience {
		a.refuse("takes-nothing", fmt.Sprintf("what was written to it was not taken within %v: the connection is closed", writePatience), true)
		_ = a.ws.CloseNow() // the reader learns it and ends the session
	}
	if hung := a.hungAt.Load(); hung != 0 && now.UnixNano()-hung > int64(closePatience) {
		_ = a.ws.CloseNow()
	}
	a.mu.Lock()
	due := false
	if a.machine != nil {
		w := a.machine.Wake()
		due = !w.IsZero() && !now.Before(w)
	}
	a.mu.Unlock()
	if due {
		a.step(session.Tick{})
	}
	if now.Unix() > a.cert.expires {
		a.recheck(now)
	}
}

func (a *agent) info() Info {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Info{Node: a.node, Epoch: a.epoch, Remote: a.remote, Since: a.since, InSync: a.machine != nil && a.machine.Synced()}
}

// do carries out one action. Frames are collected in out.
func (a *agent) do(act session.Action, out *outgoing) {
	switch t := act.(type) {
	case session.Send:
		out.add(a, t.Frame)
	case session.Report:
		a.h.opts.Sink.Report(a.node, a.epoch, t.Key, t.Body)
	case session.OfferAll:
		a.step(session.Wanted{Seq: t.Seq, List: !a.h.opts.Sink.OfferedAll(a.node, a.epoch, t.Sum)})
	case session.Offer:
		a.step(session.Wanted{Seq: t.Seq, Keys: a.h.opts.Sink.Offered(a.node, a.epoch, t.Items)})
	case session.Start:
		a.borrow(a.start)
	case session.StoreOutbox:
		a.borrow(func(ctx context.Context) {
			a.step(session.OutboxStored{Err: a.h.opts.Sink.Outbox(ctx, a.node, t.Items)})
		})
	case session.Note:
		a.h.log.Warn(t.Text, "node", a.node)
	case session.Refused:
		a.refuse(t.Reason, t.Detail, t.Routine)
	case session.Streamed:
		a.streamed(t.Frame)
	case session.Hangup:
		out.flush(a)
		a.hangup(t)
	}
}

func (a *agent) start(ctx context.Context) {
	if a.h.starts.begin(ctx) != nil {
		return // the agent has given up waiting
	}
	defer a.h.starts.end()
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := a.h.opts.Sink.SessionStarted(limited, a.node, a.epoch)
	a.mu.Lock()
	a.started = err == nil
	a.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		a.h.log.Debug("the agent left before its session was started", "node", a.node, "epoch", a.epoch)
	case err != nil:
		a.h.log.Warn("a session could not be started", "node", a.node, "epoch", a.epoch, "err", err)
	default:
		a.h.log.Info("agent connected", "node", a.node, "epoch", a.epoch, "remote", a.remote)
	}
	a.step(session.Started{Err: err})
}

// hangup says goodbye. The agent closes the connection when it has read why; tick does if it does not.
func (a *agent) hangup(t session.Hangup) {
	if a.hungUp {
		return
	}
	a.hungUp = true
	a.endStreams(t.Reason)
	a.h.meter.closed(t.Code)
	level := slog.LevelInfo
	switch t.Code {
	case wire.CloseProtocol, wire.CloseOlderState, wire.CloseLimit, wire.CloseForbidden, wire.CloseRevoked:
		level = slog.LevelWarn
	}
	a.h.log.Log(context.Background(), level, "agent disconnected", "node", a.node, "epoch", a.epoch, "reason", t.Reason)
	if t.Code == 0 || t.Code == wire.CloseHeartbeat || a.broken {
		_ = a.ws.CloseNow()
		return
	}
	a.hungAt.Store(time.Now().UnixNano())
	if err := a.ws.Close(socket.StatusNormal, t.Code.String()); err != nil {
		_ = a.ws.CloseNow()
	}
}
