package update

import (
	"fmt"
	"time"
)

// check is how far the root of the slot that runs has been read in this boot.
type check struct{ begun, done bool }

// rootChecked says whether the root was read whole in this boot, and begins that. No slot is confirmed before: dm-verity restarts the machine when somebody reads a block
// that has rotted, and a slot that is confirmed again at each boot, a minute before that happens, is never left.
func (m *Machine) rootChecked() bool {
	if !m.check.begun {
		m.check.begun = true
		m.do(Check{})
	}
	return m.check.done
}

func (m *Machine) checkedRoot(ev Checked, now time.Time) {
	if !m.check.begun || m.check.done || m.leaving != nil {
		return
	}
	m.check.done = true
	other := m.slot.Other()
	switch {
	case ev.Err == nil:
	case !ev.Rotten:
		m.tell(true, "SlotNotChecked", "whether the root of slot %s is still whole cannot be known, and it is taken for that: %v", m.slot, ev.Err)
	case !ev.Other:
		m.message = fmt.Sprintf("slot %s has rotted, and slot %s has no system that could take its place: install an update, which goes there, and exchange the disk: %v", m.slot, other, ev.Err)
		m.tell(true, "SlotRotten", "%s", m.message)
	case m.state.Phase == Trying:
		m.state.Reason = fmt.Sprintf("what was written to slot %s is not what is read: %v", m.slot, ev.Err)
		m.rollBack(now)
	case m.state.Phase == Idle || m.state.Phase == Downloading || m.state.Phase == Inspecting || m.state.Phase == Installing && !m.busy && !m.ask.due:
		m.do(Cancel{})
		m.busy = false
		m.message = fmt.Sprintf("slot %s has rotted, and the machine restarts into slot %s: %v", m.slot, other, ev.Err)
		m.tell(true, "SlotRotten", "%s. The next update repairs it, if the disk is not worn out", m.message)
		m.giveUp(m.slot, m.restart)
	default: // what goes on ends in the other slot, or comes back here
		m.check = check{}
	}
}

// rollBack leaves the slot that is tried, for the reason that the state has.
func (m *Machine) rollBack(now time.Time) {
	m.enter(RollingBack, now, "going back to version "+m.state.FromVersion)
	m.tell(true, "UpdateRollingBack", "version %s: %s. The machine restarts into slot %s with version %s", m.state.Version, m.state.Reason, m.state.From, m.state.FromVersion)
	m.giveUp(m.slot, m.restart)
}
