package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Sealer seals frames at rest; store.Sealer implements it.
type Sealer interface {
	Seal(dst, plaintext, ad []byte) ([]byte, error)
	Open(dst, sealed, ad []byte) ([]byte, error)
	KeyID() [8]byte
}

// Options for Open. Zero values take the defaults.
type Options struct {
	// Dir holds the segments and nothing else. It is made, with mode 0700, when the first value comes.
	Dir string
	// Sealer is required.
	Sealer Sealer
	// Epoch counts the starts of the agent (store.Epoch).
	Epoch uint64
	// MaxBytes is what all segments may take on the disk together. Default 64 MiB, at least 1 MiB.
	MaxBytes int64
	// DeviceBytes is what one device may take of that. Default a quarter of MaxBytes; at least 256 KiB and MaxBytes/128.
	DeviceBytes int64
	// Window is how long a value may be in memory only, if the disk keeps up. Default 1 s.
	Window time.Duration
	Log    *slog.Logger // nil: slog.Default()

	fs fsys // tests inject faults
}

const (
	defaultMax   = 64 << 20
	leastMax     = 1 << 20
	leastDevice  = 256 << 10
	leastSegment = 64 << 10
	mostSegment  = 1 << 20
	mostSegments = 512
)

// Entry is one value.
type Entry struct {
	Seq                         uint64 // rises by one with each value that was given to Record
	Epoch                       uint64 // the start of the agent during which it was recorded
	Namespace, Device, Property string
	Value                       device.Value // Server and Source are kept to the microsecond
	Missed                      uint64       // from a Reader: values that were lost just before this one, of whichever device
}

// Time returns when the agent received the value, by the gateway's clock.
func (e Entry) Time() time.Time { return e.Value.Server }

// ErrClosed is returned after Close.
var ErrClosed = errors.New("history is closed")

// History is an open history. Close it once, after Run has ended.
type History struct {
	opt     Options
	log     *slog.Logger
	segSize int64

	queue queue
	wake  chan struct{} // tells Run that there is something to write, or much

	writing sync.Mutex // one flush at a time
	w       writer     // guarded by writing

	mu      sync.Mutex
	segs    []*segment // oldest first; the last one is written to if it is open
	devices map[deviceKey]*deviceUse
	used    int64 // bytes of all segments on the disk
	targets map[string]*target
	forgot  time.Time // the log has a target that was forgotten since; zero: none
	stats   tally
	durable uint64        // all sequences up to this one are on the disk, or lost
	more    chan struct{} // closed and replaced when durable rises
	err     error         // the last write failed with this
	closed  bool
}

type deviceKey struct{ namespace, device string }

// Open reads what is in opt.Dir, and repairs it. Damage costs values, never the call: it fails only if the folder cannot be read.
func Open(opt Options) (*History, error) {
	if opt.Dir == "" || opt.Sealer == nil {
		return nil, errors.New("history: Options.Dir and Options.Sealer are required")
	}
	setDefaults(&opt)
	h := &History{
		opt: opt, log: opt.Log, wake: make(chan struct{}, 1), more: make(chan struct{}),
		devices: map[deviceKey]*deviceUse{}, targets: map[string]*target{},
		segSize: min(max(min(opt.MaxBytes/16, opt.DeviceBytes/4), leastSegment, opt.MaxBytes/mostSegments), mostSegment),
	}
	if opt.MaxBytes/mostSegments > mostSegment {
		h.segSize = opt.MaxBytes / mostSegments
	}
	if err := h.recover(); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	h.queue.init()
	h.queue.seq = h.durable
	return h, nil
}

func setDefaults(opt *Options) {
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = defaultMax
	}
	opt.MaxBytes = max(opt.MaxBytes, leastMax)
	if opt.DeviceBytes <= 0 {
		opt.DeviceBytes = opt.MaxBytes / 4
	}
	opt.DeviceBytes = min(max(opt.DeviceBytes, leastDevice, opt.MaxBytes/128), opt.MaxBytes)
	if opt.Window <= 0 {
		opt.Window = time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.fs == nil {
		opt.fs = osFS{}
	}
	opt.Dir = filepath.Clean(opt.Dir)
}

// Record keeps a value. It never blocks: while the disk does not keep up, values wait in a bounded queue, and when that is full they are dropped and counted.
func (h *History) Record(namespace, device, property string, v device.Value) {
	if len(namespace)+len(device)+len(property) > maxNames || v.DatumSize() > maxDatum {
		h.queue.lose(deviceKey{clip(namespace), clip(device)})
	} else if !h.queue.put(Entry{Epoch: h.opt.Epoch, Namespace: namespace, Device: device, Property: property, Value: clipReason(v)}) {
		return // the first of a batch has woken Run, or nothing was taken
	}
	h.poke()
}

// Missed says that n values of a device were lost before they could be given to Record. They count as dropped, and every target is told.
func (h *History) Missed(namespace, device string, n uint64) {
	h.queue.miss(deviceKey{clip(namespace), clip(device)}, n)
	h.poke()
}

func (h *History) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run writes what was recorded within Options.Window, until ctx ends; then it writes the rest.
func (h *History) Run(ctx context.Context) error {
	const firstRetry, lastRetry = time.Second, 30 * time.Second
	retry := firstRetry
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var failed time.Time // when the last attempt failed
	for {
		select {
		case <-ctx.Done():
			_ = h.Flush() // logged
			return nil
		case <-h.wake:
		case <-timer.C:
		}
		due, ok := h.due()
		if !failed.IsZero() {
			due = max(due, time.Until(failed.Add(retry)))
		}
		switch {
		case !ok:
			timer.Reset(time.Hour)
		case due > 0:
			timer.Reset(due)
		case h.Flush() != nil:
			if !failed.IsZero() {
				retry = min(2*retry, lastRetry)
			}
			failed = time.Now()
			timer.Reset(retry)
		default:
			failed, retry = time.Time{}, firstRetry
			timer.Reset(time.Hour)
			h.poke() // what came meanwhile
		}
	}
}

// due returns after what time a flush is due, and whether one is at all. Writing takes its time, too: a tenth of the window is kept for it.
func (h *History) due() (time.Duration, bool) {
	h.mu.Lock()
	acked, ok := h.forgot, !h.forgot.IsZero()
	for _, t := range h.targets {
		if t.dirty && (!ok || t.since.Before(acked)) {
			acked, ok = t.since, true
		}
	}
	h.mu.Unlock()
	since, much, waits := h.queue.waiting()
	switch {
	case much:
		return 0, true
	case waits && (!ok || since.Before(acked)):
		acked, ok = since, true
	}
	if !ok {
		return 0, false
	}
	return max(0, h.opt.Window-h.opt.Window/10-time.Since(acked)), true
}

// Err returns why values cannot be written at the moment, or nil.
func (h *History) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Close writes what waits and closes the files. Run has ended.
func (h *History) Close() error {
	err := h.Flush()
	h.writing.Lock()
	defer h.writing.Unlock()
	h.w.release()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.more)
	}
	return err
}

// clip bounds a name.
func clip(s string) string { return s[:min(len(s), maxNames)] }

// clipReason bounds the reason of a value that is not good.
func clipReason(v device.Value) device.Value {
	if len(v.Reason) > maxReason {
		v.Reason = v.Reason[:maxReason]
	}
	return v
}
