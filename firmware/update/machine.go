package update

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/board/bootenv"
)

// Event is what happens to a Machine: Started, Tick, Fetched, Inspected, Awaited, Installed, Checked, Committed, GivenUp.
type Event interface{ event() }

type (
	// Started is the first event: the agent has started, in which slot and which boot.
	Started struct {
		Slot    bootenv.Slot
		BootID  string
		Version string // of the system that runs
	}
	// Tick comes every few seconds.
	Tick struct{ Facts Facts }
	// Fetched ends a Fetch. Fatal says that trying again does not help.
	Fetched struct {
		Path  string
		Err   error
		Fatal bool
	}
	// Inspected ends an Inspect: the bundle's signature is good, and its manifest says this; or Err.
	Inspected struct {
		Compatible, Version string
		Err                 error
	}
	// Installed ends an Install.
	Installed struct{ Err error }
	// Awaited ends an Await: RAUC installs nothing, and the boot environment is this; or Err, why one of both cannot be known. Last is what RAUC says of the last
	// installation that failed; it may be one of long ago.
	Awaited struct {
		Env  bootenv.Env
		Last string
		Err  error
	}
	// Checked ends a Check. Rotten: the root of the slot that runs is not what was written; Err without it: that cannot be known. Other says that the other slot has tries left.
	Checked struct {
		Err           error
		Rotten, Other bool
	}
	// Committed ends a Confirm.
	Committed struct{ Err error }
	// GivenUp ends a GiveUp.
	GivenUp struct{ Err error }
)

func (Started) event()   {}
func (Tick) event()      {}
func (Fetched) event()   {}
func (Inspected) event() {}
func (Installed) event() {}
func (Awaited) event()   {}
func (Checked) event()   {}
func (Committed) event() {}
func (GivenUp) event()   {}

// Action is what a Machine wants done, in the order given: Save, Tell, Fetch, Cancel, Inspect, Await, Install, Check, Confirm, GiveUp, Reboot, Discard.
type Action interface{ action() }

type (
	// Save makes the state durable. Actions behind it must not be done if that fails, unless they are to be done anyway: a full disk keeps nobody from going back.
	Save struct {
		State  State
		Anyway bool
	}
	// Tell is an event for the cloud.
	Tell struct {
		Warning         bool
		Reason, Message string
	}
	// Fetch gets the order's bundle to this machine, going on where it was; Fetched ends it.
	Fetch struct{ Order Order }
	// Cancel ends a Fetch, Inspect or Install that is under way. No event follows.
	Cancel struct{}
	// Inspect has RAUC verify a bundle; Inspected ends it.
	Inspect struct{ Path string }
	// Await waits until RAUC installs nothing, and reads the boot environment; Awaited ends it.
	Await struct{}
	// Install has RAUC write a bundle to the slot that does not run, which then boots next; Installed ends it.
	Install struct{ Path string }
	// Check reads the root of the slot that runs, beside whatever else goes on; Checked ends it.
	Check struct{}
	// Confirm gives a slot its tries back and makes it the one that boots; Committed ends it.
	Confirm struct{ Slot bootenv.Slot }
	// GiveUp takes all tries from a slot, so that the other one boots; GivenUp ends it.
	GiveUp struct{ Slot bootenv.Slot }
	// Reboot restarts the machine, pods first.
	Reboot struct{}
	// Discard removes what was downloaded.
	Discard struct{}
)

func (Save) action()    {}
func (Tell) action()    {}
func (Fetch) action()   {}
func (Cancel) action()  {}
func (Inspect) action() {}
func (Await) action()   {}
func (Install) action() {}
func (Check) action()   {}
func (Confirm) action() {}
func (GiveUp) action()  {}
func (Reboot) action()  {}
func (Discard) action() {}

// rebootWait is how long a restart may take until it is asked for again.
const rebootWait = 10 * time.Minute

// Machine decides. It belongs to one goroutine.
type Machine struct {
	p     Policy
	state State

	slot     bootenv.Slot
	bootID   string
	version  string
	busy     bool      // an action is under way that an event ends
	settled  bool      // the slot that runs has been confirmed in this boot
	wellFrom time.Time // since when nothing is wrong; zero: something is
	since    time.Time // when the phase began
	retryAt  time.Time // of a download
	retries  int
	message  string // of the phase, for people
	ask      ask
	check    check
	leaving  *leaving // a slot that is being given up; nothing else goes on meanwhile
	out      []Action
}

// NewMachine returns a machine with what was saved; its first event has to be Started.
func NewMachine(p Policy, saved State) *Machine {
	if saved.Phase == "" {
		saved.Phase = Idle
	}
	return &Machine{p: p, state: saved.clone()}
}

// State returns what is saved.
func (m *Machine) State() State { return m.state.clone() }

// Message says what the machine does or waits for.
func (m *Machine) Message() string { return m.message }

// Step takes an event and returns what has to be done. Times of one boot are compared by their monotonic clock.
func (m *Machine) Step(ev Event, now time.Time) []Action {
	m.out = nil
	switch ev := ev.(type) {
	case Started:
		m.started(ev, now)
	case Tick:
		m.tick(ev.Facts, now)
	case Fetched:
		m.fetched(ev, now)
	case Inspected:
		m.inspected(ev, now)
	case Awaited:
		m.awaited(ev, now)
	case Installed:
		m.installed(ev, now)
	case Checked:
		m.checkedRoot(ev, now)
	case Committed:
		m.committed(ev, now)
	case GivenUp:
		m.givenUp(ev, now)
	}
	return m.out
}

func (m *Machine) do(a ...Action) { m.out = append(m.out, a...) }

func (m *Machine) save() {
	s := m.state.clone()
	m.do(Save{State: s, Anyway: s.Phase == Trying || s.Phase == RollingBack || s.Phase == Idle})
}

func (m *Machine) tell(warning bool, reason, format string, args ...any) {
	m.do(Tell{warning, reason, fmt.Sprintf(format, args...)})
}

func (m *Machine) enter(p Phase, now time.Time, message string) {
	m.state.Phase, m.since, m.message, m.busy = p, now, message, false
	m.save()
}

// end closes the order. The state is idle again.
func (m *Machine) end(now time.Time, result string) {
	s := m.state
	m.state = State{Done: s.Order.ID, DoneCloud: s.DoneCloud, Result: result, Confirmed: s.Confirmed, Failed: s.Failed}
	if !s.Here {
		m.state.DoneCloud = s.Order.ID
	}
	m.retries, m.retryAt = 0, time.Time{}
	m.enter(Idle, now, result)
	m.do(Discard{})
}

// fail ends the order without success, and remembers why. tried says that the version was installed and is not to be tried again.
func (m *Machine) fail(now time.Time, tried bool, reason, format string, args ...any) {
	s := &m.state
	text := fmt.Sprintf(format, args...)
	s.Failed = append(s.Failed, Failure{Version: s.Version, Bundle: s.Order.Bundle, Reason: text, At: now.UTC().Truncate(time.Second), Tried: tried})
	if n := len(s.Failed); n > maxFailures {
		s.Failed = slices.Delete(s.Failed, 0, n-maxFailures)
	}
	what := "update " + s.Order.ID
	if s.Version != "" {
		what = "update to " + s.Version
	}
	m.end(now, what+": "+text)
	m.tell(true, reason, "%s: %s. The gateway goes on with version %s in slot %s", what, text, m.version, m.slot)
}

// started finds out what has become of an update since the state was saved.
func (m *Machine) started(ev Started, now time.Time) {
	m.slot, m.bootID, m.version, m.since = ev.Slot, ev.BootID, ev.Version, now
	s := &m.state
	rebooted := s.BootID != ev.BootID
	switch s.Phase {
	case Idle:
		m.message = s.Result
		if s.Confirmed != "" && s.Confirmed != ev.Slot {
			m.tell(true, "OtherSlotBooted", "slot %s was the one in use, but slot %s with version %s has booted: the former did not come up, or somebody has chosen so on the gateway", s.Confirmed, ev.Slot, ev.Version)
		}
	case Downloading, Inspecting:
		s.From, s.To, s.FromVersion = ev.Slot, ev.Slot.Other(), ev.Version
	case Installing: // the power failed, or the agent was killed; RAUC is a process of its own, and may go on
		m.ask.due = s.Attempts > 0
		switch {
		case ev.Slot == s.To && ev.Version == s.Version: // after RAUC had made the new system the next one to boot
			m.beginTrial(now)
		case ev.Slot == s.To: // the system before the update did not boot any more, and this is the one before that
			s.From, s.To, s.FromVersion = ev.Slot, ev.Slot.Other(), ev.Version
		}
	case Draining: // somebody else has restarted the machine, or the power failed
		if ev.Slot == s.To {
			m.beginTrial(now)
		}
	case Rebooting:
		switch {
		case !rebooted:
			m.do(Reboot{})
		case ev.Slot == s.To:
			m.beginTrial(now)
		default:
			m.fail(now, true, "UpdateRolledBack", "the new system did not come up in slot %s, and slot %s was booted again", s.To, ev.Slot)
		}
	case Trying:
		if ev.Slot != s.To {
			m.fail(now, true, "UpdateRolledBack", "the new system was booted and did not become healthy; slot %s was booted again", ev.Slot)
		}
	case RollingBack:
		if ev.Slot == s.To {
			m.giveUp(s.To, m.restart)
			break
		}
		m.fail(now, true, "UpdateRolledBack", "%s", s.Reason)
	}
}

func (m *Machine) beginTrial(now time.Time) {
	m.enter(Trying, now, "version "+m.state.Version+" is tried")
	m.tell(false, "UpdateTrying", "version %s runs in slot %s and is watched until it is confirmed", m.state.Version, m.slot)
}

func (m *Machine) tick(f Facts, now time.Time) {
	problems := f.Unhealthy
	if m.state.Phase == Trying {
		problems = m.gate(f)
	}
	if len(problems) > 0 {
		m.wellFrom = time.Time{}
	} else if m.wellFrom.IsZero() {
		m.wellFrom = now
	}
	well := len(problems) == 0 && now.Sub(m.wellFrom) >= m.p.Stable
	if m.leave(now) || m.withdrawn(f, now) {
		return
	}
	switch m.state.Phase {
	case Idle:
		m.begin(f, now)
	case Downloading:
		if !m.busy && !now.Before(m.retryAt) {
			m.busy = true
			m.do(Fetch{m.state.Order})
		}
	case Inspecting:
		if !m.busy {
			m.busy = true
			m.do(Inspect{m.state.Path})
		}
	case Installing:
		m.install(f, now)
	case Draining:
		m.drain(f, now)
	case Rebooting, RollingBack:
		if now.Sub(m.since) > rebootWait { // it was asked for, and nothing came of it
			m.restart(now)
		}
	case Trying:
		m.try(f, problems, well, now)
	}
	m.settle(f, well)
}

// settle confirms the slot that runs, in every boot in which it is well: each boot takes a try from it. A system that is not well but has been reached by the
// cloud for long is confirmed, too: whoever looks after it can, and it must be able to get an update that makes it well.
func (m *Machine) settle(f Facts, well bool) {
	switch m.state.Phase {
	case Idle, Downloading, Inspecting, Installing:
	default: // Confirm would undo what has been prepared
		return
	}
	if m.settled || m.state.Phase == Installing && (m.busy || m.ask.due) || !well && (!f.Linked || f.Up < m.p.HealthTimeout) {
		return
	}
	if !m.rootChecked() {
		return
	}
	m.settled = true
	m.do(Confirm{m.slot})
}

// withdrawn ends an order that is not wanted any more, as long as the machine has not been restarted for it.
func (m *Machine) withdrawn(f Facts, now time.Time) bool {
	s := &m.state
	cancellable := s.Phase == Downloading || s.Phase == Inspecting || s.Phase == Draining || s.Phase == Installing && !m.busy && !m.ask.due
	if !cancellable || f.Want != nil && f.Want.ID == s.Order.ID {
		return false
	}
	m.do(Cancel{})
	m.busy = false
	end := func(now time.Time) {
		m.end(now, "update "+m.state.Order.ID+" was withdrawn")
		m.tell(false, "UpdateWithdrawn", "the update is not wanted any more; nothing was changed")
	}
	if s.Phase == Draining {
		m.message = "the update was withdrawn"
		m.giveUp(s.To, func(now time.Time) { end(now); m.do(Confirm{m.slot}) })
	} else {
		end(now)
	}
	return true
}

// begin looks whether something new is wanted.
func (m *Machine) begin(f Facts, now time.Time) {
	w := f.Want
	if w == nil || w.ID == m.state.Done || !f.Here && w.ID == m.state.DoneCloud || m.busy {
		return
	}
	m.state.Order, m.state.Version, m.state.Here = *w, w.Version, f.Here
	if m.refuse(now) {
		return
	}
	m.state.From, m.state.To, m.state.FromVersion = m.slot, m.slot.Other(), m.version
	m.enter(Downloading, now, "the bundle is downloaded")
	m.tell(false, "UpdateStarted", "%s is fetched for slot %s; version %s runs", w.Bundle, m.state.To, m.version)
}

// refuse ends the order if its version must not be installed. A version that is not known yet is not refused.
func (m *Machine) refuse(now time.Time) bool {
	s := &m.state
	switch {
	case s.Version == "":
		return false
	case s.Version == m.version:
		m.end(now, "version "+m.version+" runs already")
	case s.failed(s.Version) != "" && !s.Order.Retry:
		m.fail(now, false, "UpdateRefused", "this version has failed on this gateway before (%s): ask for it with --retry if that was not its fault", s.failed(s.Version))
	case compareVersions(s.Version, m.version) < 0 && !s.Order.AllowDowngrade:
		m.fail(now, false, "UpdateRefused", "it is older than version %s, which runs: ask for it with --allow-downgrade if that is meant", m.version)
	default:
		return false
	}
	return true
}

func (m *Machine) fetched(ev Fetched, now time.Time) {
	if m.state.Phase != Downloading || !m.busy {
		return
	}
	m.busy = false
	switch {
	case ev.Err == nil:
		m.state.Path = ev.Path
		m.enter(Inspecting, now, "the bundle's signature is verified")
	case ev.Fatal:
		m.fail(now, false, "UpdateFailed", "the download ended: %v", ev.Err)
	default:
		m.retries++
		wait := backOff(m.retries)
		m.retryAt = now.Add(wait)
		m.message = fmt.Sprintf("the download goes on in %v: %v", wait, ev.Err)
		if m.retries == 1 || m.retries%10 == 0 {
			m.tell(true, "UpdateDownload", "%s", m.message)
		}
	}
}

func (m *Machine) inspected(ev Inspected, now time.Time) {
	s := &m.state
	if s.Phase != Inspecting || !m.busy {
		return
	}
	m.busy = false
	switch {
	case ev.Err != nil:
		m.fail(now, false, "UpdateRefused", "the bundle is not accepted: %v", ev.Err)
	case ev.Compatible != m.p.Compatible:
		m.fail(now, false, "UpdateRefused", "the bundle is for %s, and this gateway is %s: take the bundle for this board", ev.Compatible, m.p.Compatible)
	case ev.Version == "":
		m.fail(now, false, "UpdateRefused", "the bundle has no version")
	case s.Order.Version != "" && s.Order.Version != ev.Version:
		m.fail(now, false, "UpdateRefused", "version %s was ordered, and the bundle is version %s", s.Order.Version, ev.Version)
	default:
		s.Version = ev.Version
		if !m.refuse(now) {
			m.enter(Installing, now, "version "+s.Version+" is about to be installed")
		}
	}
}

func (m *Machine) drain(f Facts, now time.Time) {
	switch {
	case !f.Window:
		m.message = "installed; the restart waits for the window (update.window)"
	case len(f.Busy) > 0 && now.Sub(m.since) < m.p.DrainTimeout:
		m.message = "installed; the restart waits for " + list(f.Busy) + ", at most until update.drainTimeout has passed"
	default:
		m.state.BootID, m.state.Baseline = m.bootID, f.Working
		m.enter(Rebooting, now, "the machine is restarted")
		m.tell(false, "UpdateRebooting", "the machine restarts into slot %s with version %s", m.state.To, m.state.Version)
		m.do(Reboot{})
	}
}

// gate returns what keeps a new system from being confirmed.
func (m *Machine) gate(f Facts) []string {
	problems := slices.Clone(f.Unhealthy)
	if !f.Linked && f.Up < m.p.WithoutCloud {
		problems = append(problems, "no relay has been reached yet")
	}
	missing := func(kind string, before, now, desired []string) {
		gone := slices.DeleteFunc(slices.Clone(before), func(name string) bool { return slices.Contains(now, name) || !slices.Contains(desired, name) })
		if len(gone) > 0 {
			problems = append(problems, kind+" that worked before the update and do not now: "+list(gone))
		}
	}
	missing("pods", m.state.Baseline.Pods, f.Working.Pods, f.Desired.Pods)
	missing("devices", m.state.Baseline.Devices, f.Working.Devices, f.Desired.Devices)
	return problems
}

func (m *Machine) try(f Facts, problems []string, well bool, now time.Time) {
	switch {
	case m.busy:
	case well && !m.rootChecked():
		m.message = "version " + m.state.Version + " is tried: all is well, and its root is read back"
	case well:
		m.busy = true
		m.do(Confirm{m.slot})
	case len(problems) == 0:
		m.message = "version " + m.state.Version + " is tried: all is well so far"
	case f.Up < m.p.HealthTimeout:
		m.message = "version " + m.state.Version + " is tried: " + strings.Join(problems, "; ")
	default:
		m.state.Reason = fmt.Sprintf("the new system was not well within %v: %s", m.p.HealthTimeout, strings.Join(problems, "; "))
		m.rollBack(now)
	}
}

func (m *Machine) committed(ev Committed, now time.Time) {
	s := &m.state
	trying := s.Phase == Trying
	m.busy = m.busy && !trying
	if ev.Err != nil {
		m.settled = false
		m.wellFrom = now // not again at once
		m.message = fmt.Sprintf("slot %s cannot be confirmed: %v", m.slot, ev.Err)
		m.tell(true, "SlotNotConfirmed", "slot %s with version %s cannot be confirmed, and is left after %d boots: %v", m.slot, m.version, bootenv.Tries, ev.Err)
		return
	}
	m.settled = true
	changed := s.Confirmed != m.slot
	s.Confirmed = m.slot
	if trying {
		s.forget(s.Version)
		from := s.FromVersion
		m.end(now, "version "+m.version+" runs and is confirmed")
		m.tell(false, "Updated", "version %s runs in slot %s and is confirmed; it was %s before", m.version, m.slot, from)
	} else if changed {
		m.save()
	}
}

func list(names []string) string {
	const most = 5
	if n := len(names); n > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", n-most)
	}
	return strings.Join(names, ", ")
}
