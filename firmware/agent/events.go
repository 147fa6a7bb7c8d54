package agent

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// Events about one object for one reason pass a token bucket: a device that flaps all night must neither fill the outbox
// nor the API server. What was held back is told by the next one that passes. Each part of a device that has one (an alarm) has a bucket of its own, so
// that one that flaps does not hide the others, and all parts together pass a wider one: a plant that trips raises hundreds of alarms at once.
const (
	eventBurst   = 10
	eventRefill  = 30 * time.Second
	wideBurst    = 300
	wideRefill   = 10 * time.Second
	eventBuckets = 1024 // bound on memory; the bucket that was used longest ago goes first
)

// Events are written by a goroutine of their own, those that come within a moment in one commit: whoever starts a container does not wait for the disk
// each time that it says so, nor does it when the disk hangs. What the queue has no room for then is counted, and told as soon as the disk takes events again.
const (
	eventQueue = 512
	eventBatch = 64
	// eventGather is for how long one waits for others: what a pod's start has to tell comes within a moment, and each commit costs the flash a sync, and the
	// runtime, whose own syncs take their turn behind it, its time.
	eventGather = 200 * time.Millisecond
)

const reasonEventsLost = "EventsLost"

type outbox interface {
	AppendAll(kind string, bodies [][]byte) error
}

// recorder turns what happens on the gateway into Kubernetes events in the durable outbox. It is safe for concurrent use
// and waits neither for the network nor for the disk. close ends it.
type recorder struct {
	node   string // its name
	outbox outbox
	log    *slog.Logger
	now    func() time.Time
	queue  chan []byte
	quit   chan struct{} // closed by close
	done   chan struct{} // closed when all that was queued has been written

	lost atomic.Int64 // events that the queue had no room for, or that could not be stored
	told int64        // of these, those that an event tells of. Of write's goroutine

	mu      sync.Mutex
	buckets map[eventKey]*eventBucket
}

type eventKey struct{ kind, namespace, name, reason, part string }

type eventBucket struct {
	tokens float64
	used   time.Time
	held   int
}

func newRecorder(node string, o outbox, log *slog.Logger) *recorder {
	r := &recorder{
		node: node, outbox: o, log: log, now: time.Now, buckets: map[eventKey]*eventBucket{},
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
			bodies = r.gather(append(bodies, b))
		case <-r.quit:
			if bodies = r.gather(nil); len(bodies) == 0 {
				return
			}
		}
		bodies = append(bodies, r.losses()...)
		if err := r.outbox.AppendAll("event", bodies); err != nil {
			r.one(bodies)
		}
	}
}

// gather adds what comes within a moment. Once the recorder is to end, it adds what is queued.
func (r *recorder) gather(bodies [][]byte) [][]byte {
	wait := time.NewTimer(eventGather)
	defer wait.Stop()
	for len(bodies) < eventBatch {
		select {
		case b := <-r.queue:
			bodies = append(bodies, b)
		case <-wait.C:
			return bodies
		case <-r.quit:
			for len(bodies) < eventBatch && len(r.queue) > 0 {
				bodies = append(bodies, <-r.queue)
			}
			return bodies
		}
	}
	return bodies
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
		r.lost.Add(int64(lost))
		r.told += int64(lost) // by the log: an event about it could not be stored either
		r.log.Error("events could not be stored and are only in this log", "events", lost, "error", err)
	}
}

// losses returns an event about those that were lost since the last one; none if none was.
func (r *recorder) losses() [][]byte {
	lost := r.lost.Load() - r.told
	if lost == 0 {
		return nil
	}
	r.told += lost
	text := fmt.Sprintf("%d events were lost because the disk did not take them in time: see the log of skerryd, and look whether its disk works", lost)
	r.log.Error("events were lost because the disk did not take them in time", "events", lost)
	ref := wire.ObjectRef{APIVersion: "v1", Kind: "Node", Name: r.node, UID: r.node} // as a kubelet names its node
	if body := r.encode(ref, "Warning", reasonEventsLost, text, 1); body != nil {
		return [][]byte{body}
	}
	return nil
}

// Lost returns how many events were neither stored nor are queued, since the start.
func (r *recorder) Lost() int64 { return r.lost.Load() }

// warnNode returns what records a Warning about the node itself. As a kubelet does, it names the node as its UID.
func (a *Agent) warnNode(reason string) func(message string) {
	return func(message string) {
		a.nodeEvent("Warning", reason, message)
	}
}

// nodeEvent records an event about the node itself.
func (a *Agent) nodeEvent(eventType, reason, message string) {
	a.events.Event(wire.ObjectRef{APIVersion: "v1", Kind: "Node", Name: a.cfg.Node.Name, UID: a.cfg.Node.Name}, eventType, reason, message)
}

// noteNode records a Normal event about the node itself.
func (a *Agent) noteNode(reason, message string) {
	a.events.Event(wire.ObjectRef{APIVersion: "v1", Kind: "Node", Name: a.cfg.Node.Name, UID: a.cfg.Node.Name}, "Normal", reason, message)
}

// Event records an event of type Normal or Warning about ref. It does not block. A full outbox drops by its own counted policy.
func (r *recorder) Event(ref wire.ObjectRef, eventType, reason, message string) {
	key := eventKey{kind: ref.Kind, namespace: ref.Namespace, name: ref.Name, reason: reason}
	if ref.Kind == "Device" {
		key.part = ref.FieldPath
	}
	held, ok := r.admit(key)
	// Whoever records an event has logged it in its own words: a second line would only hide others.
	r.log.Debug(message, "event", reason, "type", eventType, "kind", ref.Kind, "namespace", ref.Namespace, "name", ref.Name)
	if !ok {
		return
	}
	if held > 0 {
		message += fmt.Sprintf(" (%d similar events were held back)", held)
	}
	body := r.encode(ref, eventType, reason, message, int64(1+held))
	if body == nil {
		return
	}
	select {
	case r.queue <- body:
	default:
		r.lost.Add(1)
	}
}

// encode returns an event's document, nil if it has none.
func (r *recorder) encode(ref wire.ObjectRef, eventType, reason, message string, count int64) []byte {
	body, err := canon.FromValue(map[string]any{
		"ref": map[string]any{
			"apiVersion": ref.APIVersion, "kind": ref.Kind, "namespace": ref.Namespace,
			"name": ref.Name, "uid": ref.UID, "fieldPath": ref.FieldPath,
		},
		"type": eventType, "reason": reason, "message": message,
		"time": r.now().UTC().Format(time.RFC3339Nano), "count": count, "component": "skerryd",
	})
	if err != nil {
		r.log.Error("an event cannot be encoded and is only in this log", "event", reason, "error", err)
		return nil
	}
	return body
}

func (r *recorder) admit(k eventKey) (held int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	b := r.bucket(k, eventBurst, eventRefill, now)
	full := b.tokens < 1
	if k.part != "" && !full {
		k.part = ""
		all := r.bucket(k, wideBurst, wideRefill, now)
		if full = all.tokens < 1; !full {
			all.tokens--
		}
	}
	if full {
		b.held++
		return 0, false
	}
	b.tokens--
	held, b.held = b.held, 0
	return held, true
}

// bucket returns a bucket with what it has now. The lock is held.
func (r *recorder) bucket(k eventKey, burst float64, refill time.Duration, now time.Time) *eventBucket {
	b := r.buckets[k]
	if b == nil {
		if len(r.buckets) >= eventBuckets {
			r.forgetOldest()
		}
		b = &eventBucket{tokens: burst, used: now}
		r.buckets[k] = b
	}
	// A clock that was set back must not take tokens away.
	if gone := now.Sub(b.used); gone > 0 {
		b.tokens = min(burst, b.tokens+float64(gone)/float64(refill))
	}
	b.used = now
	return b
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
