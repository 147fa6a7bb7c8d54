package pods

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Types of events.
const (
	eventWarning = "Warning"
	eventNormal  = "Normal"
)

// eventRepeat is how often the same event of a pod is recorded at most: each goes through the durable outbox.
const eventRepeat = 5 * time.Minute

// maxEventKeys bounds what is remembered of a pod's events.
const maxEventKeys = 100

// eventLog records the events of one pod, each also as a log line. It may be used by any goroutine.
type eventLog struct {
	to Recorder

	mu   sync.Mutex
	ref  wire.ObjectRef // zero: nobody to record events about
	log  *slog.Logger
	seen map[string]time.Time
}

// about says which pod the events are about.
func (l *eventLog) about(ref wire.ObjectRef, log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ref, l.log = ref, log
}

// record records an event, unless the same one has just been recorded.
func (l *eventLog) record(fieldPath, eventType, reason, message string) {
	key, now := fieldPath+"\x00"+reason+"\x00"+message, time.Now()
	l.mu.Lock()
	ref, log := l.ref, l.log
	last, ok := l.seen[key]
	fresh := !ok || now.Sub(last) >= eventRepeat || now.Before(last)
	if fresh {
		if len(l.seen) >= maxEventKeys {
			clear(l.seen)
		}
		l.seen[key] = now
	}
	l.mu.Unlock()
	if !fresh || ref.Name == "" {
		return
	}
	ref.FieldPath = fieldPath
	l.to.Event(ref, eventType, reason, message)
	level := slog.LevelInfo
	if eventType == eventWarning {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, message, "reason", reason, "field", fieldPath)
}
