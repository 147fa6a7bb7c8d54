package serialline

import (
	"sync"
	"sync/atomic"
	"time"
)

// CaptureDir is where raw captures are written: memory of the gateway, not its flash.
const CaptureDir = "/run/skerry/capture"

// Witness captures what goes over a line for as long as one of the line's devices wants that. The zero Witness writes nothing. It is safe
// for concurrent use.
type Witness struct {
	mu      sync.Mutex // held while a capture begins or ends
	users   int
	capture atomic.Pointer[Capture]
}

// Begin begins a capture of port in dir with at most limit bytes, unless another device has begun one already; a limit of 0 is no wish
// for one. A capture that cannot be written does not keep a device from working. Each Begin wants an End with the same limit.
func (w *Witness) Begin(dir, port string, limit int64) {
	if limit == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users++; w.users > 1 {
		return
	}
	if c, err := NewCapture(dir, port, limit); err == nil {
		w.capture.Store(c)
	}
}

// End ends the capture with the last device that wants it.
func (w *Witness) End(limit int64) {
	if limit == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users--; w.users > 0 {
		return
	}
	if c := w.capture.Swap(nil); c != nil {
		_ = c.Close() // what was not written is only a help for people
	}
}

// Tap is a Tap that writes to the capture, if there is one. It takes no memory.
func (w *Witness) Tap(at time.Time, sent bool, data []byte) {
	if c := w.capture.Load(); c != nil && len(data) > 0 {
		c.Tap(at, sent, data)
	}
}
