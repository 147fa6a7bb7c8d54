package update

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

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/firmware/durable"
)

// Slots is the boot environment.
type Slots interface {
	// Read returns it as it is.
	Read() (bootenv.Env, error)
	Confirm(bootenv.Slot) error
	GiveUp(bootenv.Slot) error
}

// Installer is RAUC.
type Installer interface {
	// Inspect verifies a bundle's signature and returns what its manifest says.
	Inspect(ctx context.Context, path string) (compatible, version string, err error)
	// Install writes a bundle to the slot that does not run, and makes that one the next to boot.
	Install(ctx context.Context, path string, progress func(percent int)) error
	// Busy says whether RAUC installs something now, and what it says of the last installation that failed.
	Busy(ctx context.Context) (busy bool, last string, err error)
}

// Options of an Updater.
type Options struct {
	Policy  Policy
	Dir     string // for the state and the bundle; made if it is not there
	Slot    bootenv.Slot
	BootID  string
	Version string // of the system that runs
	Slots   Slots
	RAUC    Installer
	// Download brings a bundle to dir, or goes on with it, and returns its path. Fatal says of an error that it is of no use to try again.
	Download func(ctx context.Context, bundle, dir string, progress func(percent int)) (string, error)
	Fatal    func(error) bool
	// Check reads the root of the slot that runs; its error wraps rauc.ErrRotten if that is not what was written.
	Check func(ctx context.Context) error
	// Reboot restarts the machine; it may return before that happens.
	Reboot func(ctx context.Context) error
	// Facts are asked for at each tick. Want is the cloud's; an order that was given on the gateway goes before it.
	Facts func() Facts
	Tell  func(warning bool, reason, message string)
	// Changed is called when Status says something else; it must not block. nil: nobody cares.
	Changed func()
	Log     *slog.Logger
	// Closed takes no orders. What is under way ends as it would if it were withdrawn, and the slot that runs is confirmed.
	Closed bool
}

const (
	tickEvery = 5 * time.Second
	awaitMost = 2 * time.Hour
	stateFile = "state.json"
	orderFile = "order.json"
	maxState  = 256 << 10
)

// Updater does what a Machine decides. Run is for one goroutine; Status may be called from any.
type Updater struct {
	o      Options
	events chan result
	m      *Machine
	job    job // one of those that Cancel ends
	check  job
	jobs   int // how many there were

	mu      sync.Mutex
	status  Status
	percent int
}

// result is the event that ends a job.
type result struct {
	job int
	ev  Event
}

// job is what goes on beside the machine.
type job struct {
	number int
	cancel context.CancelFunc
	done   chan struct{}
}

// Status is what there is to say of updates.
type Status struct {
	Phase   Phase        `json:"phase"`
	Message string       `json:"message,omitempty"`
	Percent int          `json:"percent,omitempty"` // of the download or the installation
	Slot    bootenv.Slot `json:"slot"`              // that runs
	Running string       `json:"running"`           // the version of the system that runs
	Version string       `json:"version,omitempty"` // that is on its way
	Order   string       `json:"order,omitempty"`   // under way, or the last one that has ended
	Result  string       `json:"result,omitempty"`  // of the last order that has ended
	Failed  []Failure    `json:"failed,omitempty"`
}

// New makes the folder.
func New(o Options) (*Updater, error) {
	if err := durable.MakeDir(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of updates: %w", err)
	}
	return &Updater{o: o, events: make(chan result), status: Status{Phase: Idle, Slot: o.Slot, Running: o.Version}}, nil
}

// Status returns how far an update has come.
func (u *Updater) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status
	s.Percent = u.percent
	return s
}

// Run looks after updates until ctx ends. Its error is ctx's, or that the state cannot be read or saved: it is called again then.
func (u *Updater) Run(ctx context.Context) error {
	saved, err := u.load()
	if err != nil {
		return err
	}
	defer u.end(&u.check)
	defer u.end(&u.job)
	u.m = NewMachine(u.o.Policy, saved)
	if err := u.step(ctx, Started{Slot: u.o.Slot, BootID: u.o.BootID, Version: u.o.Version}); err != nil {
		return err
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		var ev Event
		select {
		case <-ctx.Done():
			return nil
		case r := <-u.events:
			if r.job != u.job.number && r.job != u.check.number {
				continue
			}
			ev = r.ev
		case <-tick.C:
			f := u.o.Facts()
			if o := u.localOrder(); o != nil {
				f.Want, f.Here = o, true
			}
			if u.o.Closed {
				f.Want = nil
			}
			ev = Tick{f}
		}
		if err := u.step(ctx, ev); err != nil {
			return err
		}
	}
}

// load reads the state. One that makes no sense is set aside: a gateway whose state is lost goes on with what runs.
func (u *Updater) load() (State, error) {
	path := filepath.Join(u.o.Dir, stateFile)
	b, err := os.ReadFile(path) //nolint:gosec // the agent's own
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	} else if err != nil {
		return State{}, fmt.Errorf("read the state of updates: %w", err)
	}
	s, err := parseState(b)
	if err != nil {
		u.o.Log.Error("the state of updates is damaged and set aside; an update that was under way is forgotten", "file", path+".damaged", "error", err)
		return State{}, os.Rename(path, path+".damaged")
	}
	return s, nil
}

// parseState reads what Save has written, and refuses what a Machine cannot have saved.
func parseState(b []byte) (State, error) {
	var s State
	if len(b) > maxState {
		return s, fmt.Errorf("it has %d bytes", len(b))
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, err
	}
	slot := func(s bootenv.Slot) bool { return s == bootenv.A || s == bootenv.B }
	switch s.Phase {
	case Idle, "":
	case Downloading, Inspecting, Installing, Draining, Rebooting, Trying, RollingBack:
		if !slot(s.From) || !slot(s.To) || s.From == s.To {
			return State{}, fmt.Errorf("phase %s from slot %q to slot %q", s.Phase, s.From, s.To)
		}
	default:
		return State{}, fmt.Errorf("phase %q", s.Phase)
	}
	if s.Confirmed != "" && !slot(s.Confirmed) {
		return State{}, fmt.Errorf("confirmed slot %q", s.Confirmed)
	}
	return s, nil
}

// step gives the machine an event and does what it wants. After an error the state on the disk is the last one that was saved, and nothing that depends on a later
// one has been done.
func (u *Updater) step(ctx context.Context, ev Event) error {
	todo := []Event{ev}
	for len(todo) > 0 {
		for _, a := range u.m.Step(todo[0], time.Now()) {
			next, err := u.act(ctx, a)
			if err != nil {
				return err
			}
			if next != nil {
				todo = append(todo, next)
			}
		}
		todo = todo[1:]
	}
	u.publish()
	return nil
}

func (u *Updater) act(ctx context.Context, a Action) (Event, error) {
	switch a := a.(type) {
	case Save:
		b, err := a.State.encode()
		if err == nil {
			err = durable.Replace(filepath.Join(u.o.Dir, stateFile), b, 0o600)
		}
		if err != nil {
			if err = fmt.Errorf("save the state of updates: %w", err); !a.Anyway {
				return nil, err
			}
			u.o.Log.Error("the update goes on without: it is of no use to stay in a system that does not work", "phase", a.State.Phase, "error", err)
		}
	case Tell:
		u.o.Log.Log(ctx, map[bool]slog.Level{true: slog.LevelWarn, false: slog.LevelInfo}[a.Warning], a.Message, "reason", a.Reason)
		u.o.Tell(a.Warning, a.Reason, a.Message)
	case Fetch:
		u.start(ctx, &u.job, func(ctx context.Context) Event {
			path, err := u.o.Download(ctx, a.Order.Bundle, u.o.Dir, u.progress)
			return Fetched{Path: path, Err: err, Fatal: err != nil && u.o.Fatal(err)}
		})
	case Inspect:
		u.start(ctx, &u.job, func(ctx context.Context) Event {
			compatible, version, err := u.o.RAUC.Inspect(ctx, a.Path)
			return Inspected{Compatible: compatible, Version: version, Err: err}
		})
	case Install:
		u.start(ctx, &u.job, func(ctx context.Context) Event { return Installed{Err: u.o.RAUC.Install(ctx, a.Path, u.progress)} })
	case Await:
		u.start(ctx, &u.job, u.await)
	case Check:
		u.start(ctx, &u.check, u.checkRoot)
	case Cancel:
		u.end(&u.job)
	case Confirm:
		return Committed{Err: u.o.Slots.Confirm(a.Slot)}, nil
	case GiveUp:
		return GivenUp{Err: u.o.Slots.GiveUp(a.Slot)}, nil
	case Reboot:
		if err := u.o.Reboot(ctx); err != nil {
			return nil, fmt.Errorf("restart the machine: %w", err)
		}
	case Discard:
		if err := u.discard(); err != nil {
			u.o.Log.Warn("what was downloaded cannot be removed", "error", err)
		}
	}
	return nil, nil
}

// await waits for the end of what RAUC does. An installation takes minutes; one that takes much longer is stuck, and nothing can be done beside it.
func (u *Updater) await(ctx context.Context) Event {
	var busy bool
	var last string
	var err error
	for began := time.Now(); time.Since(began) < awaitMost; {
		if busy, last, err = u.o.RAUC.Busy(ctx); err != nil {
			return Awaited{Err: err}
		}
		if !busy {
			e, err := u.o.Slots.Read()
			return Awaited{Env: e, Last: last, Err: err}
		}
		select {
		case <-ctx.Done():
			return Awaited{Err: ctx.Err()}
		case <-time.After(tickEvery):
		}
	}
	return Awaited{Err: fmt.Errorf("RAUC has been installing for %v, and is stuck: systemctl restart rauc", awaitMost)}
}

// discard removes the bundle and an order that was given here and has ended.
func (u *Updater) discard() error {
	if o := u.localOrder(); o != nil && o.ID == u.m.State().Done {
		if err := os.Remove(filepath.Join(u.o.Dir, orderFile)); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(u.o.Dir, BundleFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(u.o.Dir)
}

// start begins a job in the place of one that has ended, or that is cancelled by that.
func (u *Updater) start(ctx context.Context, at *job, work func(context.Context) Event) {
	u.end(at)
	if at == &u.job {
		u.progress(0)
	}
	ctx, cancel := context.WithCancel(ctx)
	u.jobs++
	number, done := u.jobs, make(chan struct{})
	*at = job{number, cancel, done}
	go func() {
		defer close(done)
		ev := work(ctx)
		select {
		case u.events <- result{number, ev}:
		case <-ctx.Done():
		}
	}()
}

// end ends a job, if there is one, and waits for it.
func (u *Updater) end(at *job) {
	if at.cancel != nil {
		at.cancel()
		<-at.done
	}
	*at = job{}
}

func (u *Updater) checkRoot(ctx context.Context) Event {
	err := u.o.Check(ctx)
	if err == nil {
		return Checked{}
	}
	e, envErr := u.o.Slots.Read()
	return Checked{Err: err, Rotten: errors.Is(err, rauc.ErrRotten), Other: envErr == nil && e.Good(u.o.Slot.Other())}
}

func (u *Updater) progress(percent int) {
	percent = max(0, min(100, percent))
	u.mu.Lock()
	changed := u.percent/10 != percent/10
	u.percent = percent
	u.mu.Unlock()
	if changed && u.o.Changed != nil {
		u.o.Changed()
	}
}

func (u *Updater) publish() {
	s := u.m.State()
	now := Status{
		Phase: s.Phase, Message: u.m.Message(), Slot: u.o.Slot, Running: u.o.Version, Version: s.Version, Order: s.Order.ID, Result: s.Result, Failed: s.Failed,
	}
	if now.Order == "" {
		now.Order = s.Done
	}
	u.mu.Lock()
	if s.Phase != Downloading && s.Phase != Installing {
		u.percent = 0
	}
	changed := u.status.Phase != now.Phase || u.status.Message != now.Message
	u.status = now
	u.mu.Unlock()
	if changed && u.o.Changed != nil {
		u.o.Changed()
	}
}

// BundleFile is the name of a bundle in the folder of updates.
const BundleFile = "bundle.raucb"

// localOrder returns the order that was given on the gateway.
func (u *Updater) localOrder() *Order {
	b, err := os.ReadFile(filepath.Join(u.o.Dir, orderFile))
	if err != nil || len(b) > maxState {
		return nil
	}
	var o Order
	if json.Unmarshal(b, &o) != nil || o.ID == "" || o.Bundle == "" {
		return nil
	}
	return &o
}

// Place leaves an order in the folder of updates for the agent that runs, or will. It goes before what the cloud wants until it has ended.
func Place(dir string, o Order) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := durable.MakeDir(dir, 0o700); err != nil {
		return err
	}
	return durable.Replace(filepath.Join(dir, orderFile), b, 0o600)
}

// Withdraw takes back what Place has left.
func Withdraw(dir string) error {
	if err := os.Remove(filepath.Join(dir, orderFile)); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}
