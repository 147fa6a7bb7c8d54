package session

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Refused says that something the agent wants was not done, or not at once. The relay counts it by Reason, of which there are few,
// and tells its operator. It does not end the session; Hangup says what does.
type Refused struct {
	Reason string
	Detail string
	// Routine marks what honest agents do, too, when things change while they are away.
	Routine bool
}

func (Refused) action() {}

// The reasons in Refused.
const (
	RefusedAnotherNode = "report-on-another-node" // a status document of an object that is another node's
	RefusedUnknown     = "report-on-unknown"      // of one that does not exist (any more)
	RefusedKind        = "report-on-another-kind" // of a kind that nodes do not report on
	RefusedForeignHeld = "holds-what-is-not-its"  // claims to hold objects that it should not: they are deleted there
	RefusedReportRate  = "report-rate"            // more than Limits.ReportsPerSecond: the acknowledgement waits
	RefusedOutbox      = "outbox-item-unreadable" // an item that is no canonical MessagePack
	RefusedUnread      = "commits-unacknowledged" // the window has been full, or nearly, for Limits.AckPatience
)

// Owners may be implemented by a Source that can say whose an object is, so that what is refused can be told apart: Owner returns
// the node that a pod or device is bound to, "" if it is not known. It does not block.
type Owners interface {
	Owner(key wire.Key) (node string)
}

// LimitRetry is how long an agent that exceeded a limit is told to stay away.
const LimitRetry = 30 * time.Second

// quota is what is left to one session.
type quota struct {
	bytes, messages, reports budget
	ackAt                    moment // when the reports that wait for it are acknowledged; zero: they do not wait
	seq                      uint64 // of the newest reports
	unread                   moment // since when commits have been unacknowledged without progress; zero: there are none
}

// Bursts, in seconds of the sustained rate. An agent that comes back reports on everything it has at once.
const (
	burstBytes    = 4
	burstMessages = 5
	burstReports  = 10
)

// frameCost is charged beside a frame's bytes: an empty one costs work, too.
const frameCost = 512

// received charges a frame, and says what is exceeded, "" if nothing is.
func (q *quota) received(size int, l *Limits, now moment) string {
	q.bytes.take(size+frameCost, l.BytesPerSecond, now)
	q.messages.take(1, l.MessagesPerSecond, now)
	switch {
	case q.bytes.debt(l.BytesPerSecond, burstBytes) > 0:
		return fmt.Sprintf("more than %d bytes a second are received", l.BytesPerSecond)
	case q.messages.debt(l.MessagesPerSecond, burstMessages) > 0:
		return fmt.Sprintf("more than %d messages a second are received", l.MessagesPerSecond)
	}
	return ""
}

// wake returns when the quota wants a Tick.
func (q *quota) wake(patience time.Duration) moment {
	at := q.ackAt
	if q.unread != 0 {
		if due := q.unread.add(patience); at == 0 || due < at {
			at = due
		}
	}
	return at
}

// ackReport acknowledges the batch, unless the agent reports faster than it may: then it waits, and conflates meanwhile.
func (m *Machine) ackReport(now moment) {
	if wait := m.quota.reports.debt(m.limits.ReportsPerSecond, burstReports); wait > 0 {
		m.quota.ackAt = now.add(wait)
		m.do(Refused{Reason: RefusedReportRate, Detail: fmt.Sprintf("more than %d reports a second: the next are taken in %v", m.limits.ReportsPerSecond, wait.Round(time.Millisecond))})
		return
	}
	seq := m.report.Seq
	m.report = nil
	m.send(&wire.ReportAck{Seq: seq})
}

// watchAcks notes since when commits have been waiting for their acknowledgement.
func (m *Machine) watchAcks(now moment) {
	switch {
	case len(m.inFlight) == 0:
		m.quota.unread = 0
	case m.quota.unread == 0:
		m.quota.unread = now
	}
}

// dueQuota does what wake announced.
func (m *Machine) dueQuota(now moment) {
	if now.reached(m.quota.ackAt) {
		m.quota.ackAt = 0
		m.quota.reports.take(0, m.limits.ReportsPerSecond, now)
		m.takeReport(now)
	}
	if u := m.quota.unread; u != 0 && now.reached(u.add(m.limits.AckPatience)) {
		m.do(Refused{Reason: RefusedUnread, Detail: fmt.Sprintf("%d commits with %d bytes are unacknowledged for %v; nothing more is sent before they are", len(m.inFlight), m.bytes, now.since(u).Round(time.Second))})
		m.quota.unread = now
	}
}

// refusal collects what of one batch was refused, so that a batch of thousands is told of in a line.
type refusal struct {
	first Refused
	more  int
}

func (r *refusal) add(f Refused) {
	// What is another node's is what matters; what is merely gone gives way to it.
	if r.first.Reason == "" || r.first.Routine && !f.Routine {
		r.first, r.more = f, r.more+min(1, len(r.first.Reason))
		return
	}
	r.more++
}

func (m *Machine) tell(r refusal) {
	if r.first.Reason == "" {
		return
	}
	if r.more > 0 {
		r.first.Detail += fmt.Sprintf(" (and %d more)", r.more)
	}
	m.do(r.first)
}

// whyNot says why the node may not report on key.
func (m *Machine) whyNot(k wire.Key) Refused {
	switch k.Kind() {
	case wire.KindNode:
		return Refused{Reason: RefusedAnotherNode, Detail: fmt.Sprintf("%s: a node may report on itself only", k)}
	case wire.KindPod, wire.KindDevice:
		if o, ok := m.source.(Owners); ok {
			if owner := o.Owner(k); owner != "" && owner != m.node {
				return Refused{Reason: RefusedAnotherNode, Detail: fmt.Sprintf("%s belongs to node %q", k, owner)}
			}
		}
		return Refused{Reason: RefusedUnknown, Detail: fmt.Sprintf("%s is not this node's, or gone", k), Routine: true}
	}
	return Refused{Reason: RefusedKind, Detail: fmt.Sprintf("%s: agents do not report on %s", k, k.Kind())}
}

// foreign tells of what the agent claims to hold and should not, once a session. It may be left over from a time when it was
// away, or a guess: either way it is told to delete it, and gets nothing.
func (m *Machine) foreign(want map[wire.Key]wire.Version) {
	var r refusal
	for i := range m.held {
		if k := m.held[i].Key; !wanted(want, k) {
			r.add(Refused{Reason: RefusedForeignHeld, Detail: string(k), Routine: true})
		}
	}
	m.tell(r)
}

// budget is a token bucket that may go into debt. The zero value is full.
type budget struct {
	spent float64 // and not yet regained
	at    moment
}

// take takes n, into debt if need be. A clock that goes back gives nothing.
func (b *budget) take(n, perSecond int, now moment) {
	b.spent = max(b.spent-float64(perSecond)*max(now.since(b.at).Seconds(), 0), 0) + float64(n)
	b.at = now
}

// debt returns after how long the bucket, which holds so many seconds' worth, is out of debt, as of the last take.
func (b *budget) debt(perSecond int, seconds float64) time.Duration {
	rate := float64(perSecond)
	return time.Duration(max(b.spent-rate*seconds, 0) / rate * float64(time.Second))
}
