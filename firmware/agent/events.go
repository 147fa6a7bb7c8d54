package agent

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// Events about one object for one reason pass a token bucket: a device that flaps all night must neither fill the outbox
// nor the API server. What was held back is told by the next one that passes.
const (
	eventBurst   = 10
	eventRefill  = 30 * time.Second
	eventBuckets = 1024 // bound on memory; the bucket that was used longest ago goes first
)

// Events are written by a goroutine of their own, those that come together in one commit: whoever starts a container does not wait for the disk
// each time that it says so. Only a queue that is full makes it wait.
const (
	eventQueue = 256
	eventBatch = 64
)

type outbox interface {
	AppendAll(kind string, bodies [][]byte) error
}

// recorder turns what happens on the gateway into Kubernetes events in the durable outbox. It is safe for concurrent use
// and never waits for the network. close ends it.
type recorder struct {
	outbox outbox
	log    *slog.Logger
	now    func() time.Time
	queue  chan []byte
	quit   chan struct{} // closed by close
	done   chan struct{} // closed when all that was queued has been written

	mu      sync.Mutex
	buckets map[eventKey]*eventBucket
}

type eventKey struct{ kind, namespace, name, reason string }

type eventBucket struct {
	tokens float64
	used   time.Time
	held   int
}

func newRecorder(o outbox, log *slog.Logger) *recorder {
	r := &recorder{
		outbox: o, log: log, now: time.Now, buckets: map[eventKey]*eventBucket{},
		queue: make(chan []byte, eventQueue), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go r.write()
	return r
}

// close writes what is queued. Nobody may record events any more.
func (r *recorder) close() {
	close(r.quit)
	<-r.done
}

// write puts events into the outbox until close.
func (r *recorder) write() {
	defer close(r.done)
	for {
		var bodies [][]byte
		select {
		case b := <-r.queue:
			bodies = append(bodies, b)
		case <-r.quit:
			if len(r.queue) == 0 {
				return
			}
		}
		for len(bodies) < eventBatch && len(r.queue) > 0 {
			bodies = append(bodies, <-r.queue)
		}
		if err := r.outbox.AppendAll("event", bodies); err != nil {
			r.one(bodies)
		}
	}
}

// one stores events of a batch that could not be stored: one that is too large must not cost the others.
func (r *recorder) one(bodies [][]byte) {
	lost := 0
	var err error
	for _, b := range bodies {
		if e := r.outbox.AppendAll("event", [][]byte{b}); e != nil {
			lost, err = lost+1, e
		}
	}
	if lost > 0 {
		r.log.Error("events could not be stored and are only in this log", "events", lost, "error", err)
	}
}

// warnNode returns what records a Warning about the node itself. As a kubelet does, it names the node as its UID.
func (a *Agent) warnNode(reason string) func(message string) {
	return func(message string) {
		a.events.Event(wire.ObjectRef{APIVersion: "v1", Kind: "Node", Name: a.cfg.Node.Name, UID: a.cfg.Node.Name}, "Warning", reason, message)
	}
}

// Event records an event of type Normal or Warning about ref. A full outbox drops by its own counted policy.
func (r *recorder) Event(ref wire.ObjectRef, eventType, reason, message string) {
	held, ok := r.admit(eventKey{ref.Kind, ref.Namespace, ref.Name, reason})
	// Whoever records an event has logged it in its own words: a second line would only hide others.
	r.log.Debug(message, "event", reason, "type", eventType, "kind", ref.Kind, "namespace", ref.Namespace, "name", ref.Name)
	if !ok {
		return
	}
	if held > 0 {
		message += fmt.Sprintf(" (%d similar events were held back)", held)
	}
	body, err := canon.FromValue(map[string]any{
		"ref": map[string]any{
			"apiVersion": ref.APIVersion, "kind": ref.Kind, "namespace": ref.Namespace,
			"name": ref.Name, "uid": ref.UID, "fieldPath": ref.FieldPath,
		},
		"type": eventType, "reason": reason, "message": message,
		"time": r.now().UTC().Format(time.RFC3339Nano), "count": int64(1 + held), "component": "skerryd",
	})
	if err != nil {
		r.log.Error("an event cannot be encoded and is only in this log", "event", reason, "error", err)
		return
	}
	r.queue <- body
}

func (r *recorder) admit(k eventKey) (held int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	b := r.buckets[k]
	if b == nil {
		if len(r.buckets) >= eventBuckets {
			r.forgetOldest()
		}
		b = &eventBucket{tokens: eventBurst, used: now}
		r.buckets[k] = b
	}
	// A clock that was set back must not take tokens away.
	if gone := now.Sub(b.used); gone > 0 {
		b.tokens = min(eventBurst, b.tokens+float64(gone)/float64(eventRefill))
	}
	b.used = now
	if b.tokens < 1 {
		b.held++
		return 0, false
	}
	b.tokens--
	held, b.held = b.held, 0
	return held, true
}

func (r *recorder) forgetOldest() {
	var oldest eventKey
	var used time.Time
	for k, b := range r.buckets {
		if used.IsZero() || b.used.Before(used) {
			oldest, used = k, b.used
		}
	}
	delete(r.buckets, oldest)
}
