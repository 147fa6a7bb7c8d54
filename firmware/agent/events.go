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

type outbox interface {
	Append(kind string, body []byte) error
}

// recorder turns what happens on the gateway into Kubernetes events in the durable outbox. It is safe for concurrent use
// and never waits for the network.
type recorder struct {
	outbox outbox
	log    *slog.Logger
	now    func() time.Time

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
	return &recorder{outbox: o, log: log, now: time.Now, buckets: map[eventKey]*eventBucket{}}
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
	if err == nil {
		err = r.outbox.Append("event", body)
	}
	if err != nil {
		r.log.Error("an event could not be stored and is only in this log", "event", reason, "error", err)
	}
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
