package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

// agent is the shell around one session: its socket, and the goroutines that it borrows.
type agent struct {
	h      *Hub
	ws     *websocket.Conn
	raw    *watched // below ws
	node   string
	remote string
	epoch  uint64
	cert   facts
	since  time.Time
	ctx    context.Context // ends with the session
	cancel context.CancelFunc
	unsub  func()

	mu      sync.Mutex // before q.mu
	machine *session.Machine
	counted session.Stats
	started bool // Sink.SessionStarted has returned nil, and SessionEnded has not been called
	hungUp  bool

	q outQueue
}

// outQueue is what an agent's pump has to do. Its lock is never held while anything else is called.
type outQueue struct {
	mu      sync.Mutex
	actions []session.Action
	dirty   map[wire.Key]struct{} // each once, however often it changes while a slow agent is written to
	owed    int                   // weight of the frames whose actions are not carried out yet
	room    sync.Cond             // of mu: owed has become less
	pumping bool
	done    bool
	borrows sync.WaitGroup // goroutines that work for the session
}

// Reading stops while so much is owed: an agent that sends and does not take answers waits for itself. A frame weighs its
// bytes and frameWeight, for what an empty one costs.
const (
	maxOwed     = 1 << 20
	frameWeight = 512
)

func newAgent(h *Hub, work context.Context, ws *websocket.Conn, node, remote string) *agent {
	ctx, cancel := context.WithCancel(work)
	a := &agent{h: h, ws: ws, node: node, remote: remote, since: time.Now(), ctx: ctx, cancel: cancel}
	a.q.room.L = &a.q.mu
	return a
}

// begin starts the session after it was registered.
func (a *agent) begin() {
	a.mu.Lock()
	a.machine = session.New(session.Config{
		Node: a.node, Relay: a.h.opts.Name, Epoch: a.epoch,
		Source: a.h.opts.Source, Rules: a.h.opts.Rules, Limits: a.h.opts.Limits,
	}, a.since)
	a.mu.Unlock()
	a.unsub = a.h.opts.Source.Subscribe(a.node, a.notify)
	go a.read() // waited for by Hub.all
}

// read is the one goroutine that an idle session has.
func (a *agent) read() {
	defer a.end()
	for {
		// No deadline: the machine counts heartbeats, and a context that can end would cost memory for each agent.
		kind, b, err := a.ws.Read(context.Background())
		if err != nil {
			a.lost(err)
			return
		}
		a.raw.since = 0
		a.h.meter.received(len(b))
		if kind != websocket.MessageBinary {
			a.step(session.Shut{Code: wire.CloseProtocol, Reason: "a text message: frames are binary"})
			continue
		}
		f, err := wire.Decode(b)
		if err != nil {
			a.step(session.Shut{Code: wire.CloseProtocol, Reason: err.Error()})
			continue // until the pump has closed the socket
		}
		if f != nil {
			a.step(session.Received{Frame: f, Size: len(b)})
			a.owe(len(b) + frameWeight)
		}
	}
}

// owe adds a frame's weight to what the pump has to do, and waits until that is little enough to read on. The pump always
// gets on: each write ends within its time limit.
func (a *agent) owe(weight int) {
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	if !a.q.pumping {
		return // its actions are carried out, if there were any
	}
	for a.q.owed += weight; a.q.owed > maxOwed; {
		a.q.room.Wait()
	}
}

func (a *agent) lost(err error) {
	limit := int64(0)
	if a.raw != nil {
		limit = (a.raw.limit - overheadAllowed) / 2
	}
	switch {
	case errors.Is(err, websocket.ErrMessageTooBig):
		a.step(session.Shut{Code: wire.CloseLimit, Reason: fmt.Sprintf("a message of more than %d bytes", limit), RetryAfter: 30 * time.Second})
		return
	case errors.Is(err, errOverhead):
		a.step(session.Shut{Code: wire.CloseLimit, Reason: errOverhead.Error(), RetryAfter: 30 * time.Second})
		return
	case brokeWebSocket(err):
		a.step(session.Shut{Code: wire.CloseProtocol, Reason: "WebSocket: " + err.Error()})
		return
	case !errors.Is(err, io.EOF) && websocket.CloseStatus(err) == -1:
		a.h.log.Debug("connection broke", "node", a.node, "err", err)
	}
	a.step(session.Lost{})
}

// brokeWebSocket tells what the peer did wrong from what happens to connections. The library has no type for it.
func brokeWebSocket(err error) bool {
	var network net.Error
	return websocket.CloseStatus(err) == -1 && !errors.As(err, &network) && !errors.Is(err, io.EOF) &&
		!errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, context.Canceled)
}

// controlled ends the session of an agent that sends WebSocket's own pings: the link has others, and these would be answered
// without being counted.
func (a *agent) controlled(what string) {
	a.step(session.Shut{Code: wire.CloseProtocol, Reason: "a WebSocket " + what + ": the link has pings of its own"})
}

// end cleans up when the socket is gone.
func (a *agent) end() {
	a.unsub()
	a.q.mu.Lock()
	a.q.done = true
	a.q.mu.Unlock()
	a.cancel()
	a.q.borrows.Wait()
	_ = a.ws.CloseNow()
	a.mu.Lock()
	started := a.started
	a.started = false
	a.mu.Unlock()
	if started {
		a.h.opts.Sink.SessionEnded(a.node, a.epoch)
	}
	a.h.unregister(a)
}

// notify marks a key dirty. The Source may hold its locks.
func (a *agent) notify(k wire.Key) {
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	if a.q.dirty == nil {
		a.q.dirty = make(map[wire.Key]struct{})
	}
	a.q.dirty[k] = struct{}{}
	a.wakeLocked()
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
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	a.q.actions = append(a.q.actions, acts...)
	a.wakeLocked()
}

func (a *agent) count() {
	now := a.machine.Stats()
	if now != a.counted {
		a.h.meter.stats(a.counted, now)
		a.counted = now
	}
}

func (a *agent) tick(now time.Time) {
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

// wakeLocked borrows a goroutine for the pump unless it runs. The caller holds q.mu.
func (a *agent) wakeLocked() {
	if a.q.pumping || a.q.done {
		return
	}
	a.q.pumping = true
	a.q.borrows.Go(a.pump)
}

// borrow runs fn in a goroutine that end waits for.
func (a *agent) borrow(fn func()) {
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	if !a.q.done {
		a.q.borrows.Go(fn)
	}
}

// pump carries out actions in order until there are none.
func (a *agent) pump() {
	for {
		a.q.mu.Lock()
		dirty, actions, owed := a.q.dirty, a.q.actions, a.q.owed
		a.q.dirty, a.q.actions = nil, nil
		if len(dirty) == 0 && len(actions) == 0 {
			a.q.pumping, a.q.owed = false, 0
			a.q.mu.Unlock()
			a.q.room.Broadcast()
			return
		}
		a.q.mu.Unlock()
		for _, act := range actions {
			a.do(act)
		}
		if len(dirty) > 0 {
			a.step(session.Dirty{Keys: slices.Collect(maps.Keys(dirty))})
		}
		a.q.mu.Lock()
		a.q.owed -= owed
		a.q.mu.Unlock()
		a.q.room.Broadcast()
	}
}

func (a *agent) do(act session.Action) {
	switch t := act.(type) {
	case session.Send:
		a.send(t.Frame)
	case session.Report:
		a.h.opts.Sink.Report(a.node, a.epoch, t.Key, t.Body)
	case session.OfferAll:
		a.step(session.Wanted{Seq: t.Seq, List: !a.h.opts.Sink.OfferedAll(a.node, a.epoch, t.Sum)})
	case session.Offer:
		a.step(session.Wanted{Seq: t.Seq, Keys: a.h.opts.Sink.Offered(a.node, a.epoch, t.Items)})
	case session.Start:
		a.borrow(a.start)
	case session.StoreOutbox:
		a.borrow(func() {
			a.step(session.OutboxStored{Err: a.h.opts.Sink.Outbox(a.ctx, a.node, t.Items)})
		})
	case session.Note:
		a.h.log.Warn(t.Text, "node", a.node)
	case session.Refused:
		a.refuse(t.Reason, t.Detail, t.Routine)
	case session.Hangup:
		a.hangup(t)
	}
}

func (a *agent) start() {
	if a.h.starts.begin(a.ctx) != nil {
		return // the agent has given up waiting
	}
	defer a.h.starts.end()
	ctx, cancel := context.WithTimeout(a.ctx, 10*time.Second)
	defer cancel()
	err := a.h.opts.Sink.SessionStarted(ctx, a.node, a.epoch)
	a.mu.Lock()
	a.started = err == nil
	a.mu.Unlock()
	switch {
	case a.ctx.Err() != nil:
		a.h.log.Debug("the agent left before its session was started", "node", a.node, "epoch", a.epoch)
	case err != nil:
		a.h.log.Warn("a session could not be started", "node", a.node, "epoch", a.epoch, "err", err)
	default:
		a.h.log.Info("agent connected", "node", a.node, "epoch", a.epoch, "remote", a.remote)
	}
	a.step(session.Started{Err: err})
}

func (a *agent) send(f wire.Frame) {
	if a.hungUp {
		return
	}
	buf := a.h.bufs.Get().(*[]byte)
	b, err := wire.Append((*buf)[:0], f)
	if err != nil {
		a.h.log.Error("a frame could not be encoded", "node", a.node, "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	err = a.ws.Write(ctx, websocket.MessageBinary, b)
	late := ctx.Err() != nil
	cancel()
	if late {
		a.refuse("takes-nothing", "what was written to it was not taken within 30s: the connection is closed", true)
	}
	if err != nil {
		_ = a.ws.CloseNow() // the reader learns it and ends the session
	} else {
		a.h.meter.sent(len(b))
	}
	if cap(b) <= 256<<10 {
		*buf = b[:0]
		a.h.bufs.Put(buf)
	}
}

// hangup closes the socket. hungUp is only used by the pump, which is one goroutine at a time.
func (a *agent) hangup(t session.Hangup) {
	if a.hungUp {
		return
	}
	a.hungUp = true
	a.h.meter.closed(t.Code)
	level := slog.LevelInfo
	switch t.Code {
	case wire.CloseProtocol, wire.CloseOlderState, wire.CloseLimit, wire.CloseForbidden, wire.CloseRevoked:
		level = slog.LevelWarn
	}
	a.h.log.Log(a.ctx, level, "agent disconnected", "node", a.node, "epoch", a.epoch, "reason", t.Reason)
	if t.Code == 0 || t.Code == wire.CloseHeartbeat {
		_ = a.ws.CloseNow()
		return
	}
	// The agent closes when it has read why; this waits for it, a few seconds at most.
	_ = a.ws.Close(websocket.StatusNormalClosure, t.Code.String())
}
