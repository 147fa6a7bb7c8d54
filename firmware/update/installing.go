package update

import (
	"fmt"
	"time"
)

// ask is what a machine has to find out of RAUC before it may go on with an installation.
type ask struct {
	due    bool      // an installation was begun, and what has become of it is not known
	failed int       // how often RAUC could not be asked
	at     time.Time // not before
	said   string    // why `rauc install` has failed in this run of the agent
}

// askTries is how often RAUC is asked that does not answer, with the pauses of backOff: for about two hours.
const askTries = 8

// backOff is a minute, and twice as long each time, up to half an hour.
func backOff(failed int) time.Duration { return min(time.Minute<<min(failed-1, 5), 30*time.Minute) }

func (m *Machine) install(f Facts, now time.Time) {
	switch {
	case m.busy || m.ask.due && now.Before(m.ask.at):
	case m.ask.due:
		m.await()
	case !m.settled: // the other slot may be the only one that is known to be good
		m.message = "the installation waits until the system that runs is confirmed"
	case f.Power != "":
		m.message = "the installation waits: the gateway " + f.Power
	default:
		m.busy = true
		m.state.Attempts++
		m.state.Baseline = f.Working
		m.message = fmt.Sprintf("version %s is written to slot %s", m.state.Version, m.state.To)
		m.save()
		m.do(Install{m.state.Path})
	}
}

func (m *Machine) await() {
	m.busy = true
	m.message = "the installation of version " + m.state.Version + " was begun before: RAUC is waited for, should it be at it still"
	m.do(Await{})
}

func (m *Machine) installed(ev Installed, now time.Time) {
	if m.state.Phase != Installing || !m.busy {
		return
	}
	if ev.Err != nil { // the command has failed; whether RAUC itself has, and in what state it has left the slots, it has to say
		m.ask = ask{due: true, said: ev.Err.Error()}
		m.await()
		return
	}
	m.written(now)
}

func (m *Machine) written(now time.Time) {
	m.enter(Draining, now, "installed; the machine is restarted when it may be")
	m.tell(false, "UpdateInstalled", "version %s is in slot %s; the machine is restarted when its pods and the window allow", m.state.Version, m.state.To)
}

// awaited goes on with an installation of which nobody knew what had become. RAUC takes the slot's tries before it writes, and makes it the one that boots next
// when all is written and read back: which one that is says whether it has come to its end.
func (m *Machine) awaited(ev Awaited, now time.Time) {
	if m.state.Phase != Installing || !m.busy || !m.ask.due {
		return
	}
	m.busy = false
	s := &m.state
	fail := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		m.message = text
		m.giveUp(s.To, func(now time.Time) { // the system that runs is the one that boots, whatever RAUC has left
			m.fail(now, false, "UpdateFailed", "%s", text)
			m.do(Confirm{m.slot})
		})
	}
	switch {
	case ev.Err != nil && m.ask.failed+1 < askTries:
		m.ask.failed++
		wait := backOff(m.ask.failed)
		m.ask.at = now.Add(wait)
		m.message = fmt.Sprintf("whether the installation into slot %s goes on cannot be known, and RAUC is asked again in %v: %v", s.To, wait, ev.Err)
		if m.ask.failed == 1 {
			m.tell(true, "UpdateInstallation", "%s", m.message)
		}
		return
	case ev.Err != nil && m.ask.said != "":
		fail("the installation into slot %s ended: %s (and then: %v)", s.To, m.ask.said, ev.Err)
	case ev.Err != nil:
		fail("what has become of the installation into slot %s cannot be known: %v", s.To, ev.Err)
	case ev.Env.Order[0] == s.To && ev.Env.Good(s.To): // not Primary: a slot that runs with its last try leaves the other one to boot next, whatever that holds
		m.written(now)
	case m.ask.said != "":
		fail("the installation into slot %s ended: %s", s.To, m.ask.said)
	case s.Attempts >= m.p.InstallTries && ev.Last != "":
		fail("the installation was interrupted %d times; RAUC says of the last one that failed: %s", s.Attempts, ev.Last)
	case s.Attempts >= m.p.InstallTries:
		fail("the installation was interrupted %d times", s.Attempts)
	default:
		m.message = "the installation was interrupted, and is begun again"
	}
	m.ask = ask{}
}
