package readonly

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/durable"
)

// MaxRestarts is how many restarts in a row are made.
const MaxRestarts = 3

// pauses are how long a file system is read-only until the restart with that number.
func pauses() [MaxRestarts]time.Duration {
	return [MaxRestarts]time.Duration{time.Minute, 10 * time.Minute, time.Hour}
}

const (
	lookEvery = 15 * time.Second
	wellAfter = 24 * time.Hour
	// forceAfter is how long a restart may take until it is forced: what hangs may be waiting for this very disk.
	forceAfter = 10 * time.Minute
	fileName   = "readonly.json"
	maxFile    = 4 << 10
)

// Options of a Guard. Dir, Boot and ReadOnly are required.
type Options struct {
	Dir      string // on the file system in question, for the Guard's file; it is made
	Boot     string // the kernel's id of this boot
	ReadOnly func() (bool, error)
	// Restart restarts the machine, so that the file system is checked; it may return before that happens. force: without waiting for anything. nil: nobody checks it at a start, so
	// the machine is never restarted for it.
	Restart func(ctx context.Context, force bool) error
	// GoingDown says that the machine is being shut down in order, when Run ends. nil: it is.
	GoingDown func() bool
	// Changed is told of each change; it must not block. It may be nil.
	Changed func(State)
	Log     *slog.Logger
}

// State is how the file system is.
type State struct {
	ReadOnly bool      `json:"readOnly"`
	Since    time.Time `json:"since,omitzero"`
	Message  string    `json:"message,omitempty"` // what is done about it
}

// Guard watches over one file system. Make it with New.
type Guard struct {
	o       Options
	rec     record
	counted bool // rec is on the disk, and of this boot

	mu    sync.Mutex
	state State
}

// record is what the file has.
type record struct {
	Boot string `json:"boot"`
	Cut  int    `json:"cut"`  // starts of the machine in a row before this one that did not end in order
	Open bool   `json:"open"` // nor has this one, yet
}

// New returns a Guard, and counts this start. If the file system is read-only already it is one that may have been counted before.
func New(o Options) *Guard {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.GoingDown == nil {
		o.GoingDown = func() bool { return true }
	}
	if o.Changed == nil {
		o.Changed = func(State) {}
	}
	g := &Guard{o: o}
	if err := g.begin(); err != nil {
		o.Log.Warn("this start is not counted: if the disk becomes read-only, the machine is not restarted for it", "error", err)
	}
	return g
}

func (g *Guard) path() string { return filepath.Join(g.o.Dir, fileName) }

func (g *Guard) begin() error {
	old, err := read(g.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.o.Log.Warn("the count of starts cannot be read and begins anew", "error", err)
	}
	g.rec = record{Boot: g.o.Boot, Open: true}
	switch {
	case old.Boot == g.o.Boot: // the agent alone was started again
		g.rec.Cut, g.counted = old.Cut, old.Open
	case old.Open:
		g.rec.Cut = min(old.Cut+1, MaxRestarts)
	}
	if g.counted {
		return nil
	}
	if err := durable.MakeDir(g.o.Dir, 0o700); err != nil {
		return err
	}
	if err := g.write(); err != nil {
		return err
	}
	g.counted = true
	return nil
}

func read(path string) (r record, err error) {
	b, err := os.ReadFile(path) //nolint:gosec // the agent's own
	switch {
	case err != nil:
		return r, err
	case len(b) > maxFile:
		return r, fmt.Errorf("%s has %d bytes", path, len(b))
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("%s: %w", path, err)
	}
	r.Cut = max(0, min(r.Cut, MaxRestarts))
	return r, nil
}

func (g *Guard) write() error {
	b, err := json.Marshal(g.rec)
	if err != nil {
		return err
	}
	return durable.Replace(g.path(), b, 0o600)
}

// State returns how the file system is.
func (g *Guard) State() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
}

func (g *Guard) set(s State) {
	g.mu.Lock()
	changed := s != g.state
	g.state = s
	g.mu.Unlock()
	if changed {
		g.o.Changed(s)
	}
}

// Restarts says whether the file system is read-only now, and Run restarts the machine for it.
func (g *Guard) Restarts() bool {
	ro, err := g.o.ReadOnly()
	return err == nil && ro && g.o.Restart != nil && g.counted && g.rec.Cut < MaxRestarts
}

// Run watches until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	began := time.Now()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if ro, err := g.o.ReadOnly(); err != nil {
			g.o.Log.Debug("whether the disk is read-only cannot be seen", "error", err)
		} else if ro {
			return g.readOnly(ctx)
		}
		if g.rec.Open && time.Since(began) >= wellAfter {
			g.close()
		}
		select {
		case <-ctx.Done():
			if g.o.GoingDown() {
				g.close()
			}
			return nil
		case <-tick.C:
		}
	}
}

// close notes that this start needs not be counted.
func (g *Guard) close() {
	if g.rec.Open = false; g.counted {
		if err := g.write(); err != nil {
			g.o.Log.Warn("this start goes on counting as one that did not end in order", "error", err)
		}
	}
}

// readOnly restarts the machine, if that may help. A file system that was made read-only is not made writable again before.
func (g *Guard) readOnly(ctx context.Context) error {
	s := State{ReadOnly: true, Since: time.Now()}
	switch {
	case g.o.Restart == nil:
		s.Message = "the data's file system has become read-only because of an error, and nothing is kept: check it with fsck, and restart the machine"
	case !g.counted:
		s.Message = "the data's file system is read-only, and was before this start could be counted; nothing is kept, and the machine is not restarted for it: restart it once, and exchange the disk if that does not help"
	case g.rec.Cut >= MaxRestarts:
		s.Message = fmt.Sprintf("the data's file system has become read-only because of an error again, after %d starts in a row; the machine stays up with what still works, and nothing is kept: exchange the disk", g.rec.Cut)
	default:
		wait := pauses()[g.rec.Cut]
		s.Message = fmt.Sprintf("the data's file system has become read-only because of an error, and nothing is kept; the machine restarts in %v, and it is checked then (restart %d of %d in a row)", wait, g.rec.Cut+1, MaxRestarts)
		g.set(s)
		g.o.Log.Error(s.Message)
		if !pause(ctx, wait) {
			return nil
		}
		g.restart(ctx)
		return nil
	}
	g.set(s)
	g.o.Log.Error(s.Message)
	<-ctx.Done()
	return nil
}

func (g *Guard) restart(ctx context.Context) {
	for force := false; ; force = true {
		if err := g.o.Restart(ctx, force); err != nil && ctx.Err() == nil {
			g.o.Log.Error("the machine cannot be restarted; it is tried again, by force", "error", err)
		}
		if !pause(ctx, forceAfter) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
