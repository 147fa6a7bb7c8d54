package update

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/board/bootenv"
)

// leaving is a slot that is being given up.
type leaving struct {
	slot   bootenv.Slot
	then   func(now time.Time) // when that is done
	failed int
	again  time.Time // not before
}

// giveUp takes a slot's tries and then does what comes next, which is never done before: a machine that restarts with the tries still there boots the slot that was to
// be left, and that without end if it is the boot environment which cannot be written. Until then the machine stays where it is, and says why.
func (m *Machine) giveUp(slot bootenv.Slot, then func(now time.Time)) {
	m.leaving, m.busy = &leaving{slot: slot, then: then}, true
	m.do(GiveUp{slot})
}

// leave tries again to give a slot up, and says whether one is being given up.
func (m *Machine) leave(now time.Time) bool {
	if m.leaving == nil {
		return false
	}
	if !m.busy && !now.Before(m.leaving.again) {
		m.busy = true
		m.do(GiveUp{m.leaving.slot})
	}
	return true
}

func (m *Machine) givenUp(ev GivenUp, now time.Time) {
	l := m.leaving
	if l == nil || !m.busy {
		return
	}
	m.busy = false
	if ev.Err == nil {
		m.leaving = nil
		l.then(now)
		return
	}
	l.failed++
	wait := backOff(l.failed)
	l.again = now.Add(wait)
	m.message = fmt.Sprintf("slot %s cannot be given up, so slot %s with version %s goes on running; it is tried again in %v: %v: if this stays, the disk is worn out or write-protected: exchange it", l.slot, m.slot, m.version, wait, ev.Err)
	if m.state.Reason != "" {
		m.message = m.state.Reason + "; " + m.message
	}
	if l.failed == 1 || l.failed%10 == 0 {
		m.tell(true, "SlotNotGivenUp", "%s", m.message)
	}
}

// restart has the machine restart.
func (m *Machine) restart(now time.Time) {
	m.since = now
	m.do(Reboot{})
}
