package session

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// reported takes a batch. The node's own status goes on at once, because it keeps the node alive. The others wait until the
// caches know what the agent knows: before, a pod that is the node's could look like one that is not.
func (m *Machine) reported(r *wire.Report, now moment) {
	if m.report != nil {
		m.violation("reports %d came before %d were acknowledged", r.Seq, m.report.Seq)
		return
	}
	if r.Seq <= m.quota.seq { // of an earlier session, or sent twice
		m.violation("reports %d came after %d", r.Seq, m.quota.seq)
		return
	}
	m.quota.seq = r.Seq
	for _, it := range r.Items {
		if err := canon.Check(it.Body); err != nil {
			m.violation("report on %s: %v", it.Key, err)
			return
		}
	}
	m.report = r
	m.quota.reports.take(len(r.Items), m.limits.ReportsPerSecond, now)
	if m.phase == phaseCatching {
		r.Items = slices.DeleteFunc(r.Items, func(it wire.ReportItem) bool {
			own := m.isOwn(it.Key)
			if own {
				m.accept(it)
			}
			return own
		})
	}
	if m.phase != phaseCatching || len(r.Items) == 0 {
		m.takeReport(now)
	}
}

// offered passes on what the agent has from earlier sessions. What it may report on is checked when the bodies come; what the
// Sink knows of a node, it knows from that node only.
func (m *Machine) offered(o *wire.Offer) {
	if m.offering || o.Seq != m.offer+1 || (len(o.Sum) > 0) != (o.Seq == 1) {
		m.violation("offer %d came after %d (unanswered: %t), with a sum of %d bytes: a session has one sum, first, and each waits for its answer",
			o.Seq, m.offer, m.offering, len(o.Sum))
		return
	}
	m.offer, m.offering = o.Seq, true
	if len(o.Sum) > 0 {
		m.do(OfferAll{Seq: o.Seq, Sum: wire.Sum(o.Sum)})
		return
	}
	if m.stats.Offered += uint64(len(o.Items)); m.stats.Offered > uint64(m.limits.MaxEntries) {
		m.close(wire.CloseLimit, fmt.Sprintf("the agent offers more than %d status documents", m.limits.MaxEntries), 5*time.Minute)
		return
	}
	m.do(Offer{Seq: o.Seq, Items: o.Items})
}

func (m *Machine) wanted(w Wanted) {
	switch {
	case w.Seq != 0 && (w.Seq != m.offer || !m.offering), m.phase < phaseCatching, w.Seq == 0 && len(w.Keys) == 0:
		return
	case w.Seq != 0:
		m.offering = false
	}
	m.stats.Wanted += uint64(len(w.Keys))
	f := &wire.Want{Seq: w.Seq, List: w.List}
	room := int(m.peerFrame) - 64
	for _, k := range w.Keys {
		if room -= len(k) + 3; len(f.Keys) > 0 && room < 0 || len(f.Keys) == wire.MaxItems {
			// What does not fit goes ahead, unasked: the answer comes last.
			m.send(&wire.Want{Keys: f.Keys})
			f.Keys, room = nil, int(m.peerFrame)-64-len(k)
		}
		f.Keys = append(f.Keys, k)
	}
	m.send(f)
}

// takeReport goes through the batch that waits, and acknowledges it. It waits on if the Source cannot tell now.
func (m *Machine) takeReport(now moment) {
	r := m.report
	if r == nil || m.phase == phaseClosed || m.quota.ackAt != 0 {
		return
	}
	var refused refusal
	defer func() { m.tell(refused) }()
	ready := false
	for i, it := range r.Items {
		if m.mayReport(it.Key) || m.mayMirror(it) {
			m.accept(it)
			continue
		}
		if !ready {
			if _, ready = m.source.Keys(m.node); !ready {
				r.Items = r.Items[i:]
				m.retryLater(now)
				return
			}
		}
		m.stats.ReportsRefused++
		refused.add(m.whyNot(it.Key))
	}
	r.Items = nil
	m.ackReport(now)
}

func (m *Machine) accept(it wire.ReportItem) {
	m.stats.Reports++
	m.do(Report{Key: it.Key, Body: it.Body})
}

func (m *Machine) isOwn(k wire.Key) bool { return k == wire.NewKey(wire.KindNode, "", m.node, "") }

// mayReport is the rule of Kubernetes' NodeRestriction: a node reports on itself and on what is bound to it. What is
// refused may simply be gone already, so it does not end the session.
func (m *Machine) mayReport(k wire.Key) bool {
	switch k.Kind() {
	case wire.KindNode:
		return m.isOwn(k)
	case wire.KindPod, wire.KindDevice:
		obj, _, ok := m.source.Object(m.node, k)
		return ok && !obj.Absent
	}
	return false
}

// mirrorRequest is how the canonical form of a document begins that asks for the mirror of a static pod: {"mirror": …}.
const mirrorRequest = "\x81\xa6mirror"

// mayMirror lets through what asks for the mirror of a static pod of this node. The pod is unknown: it is to be made, and the Sink
// decides whether it may be. Its name ends with the node's, and nobody's pod has its key.
func (m *Machine) mayMirror(it wire.ReportItem) bool {
	if it.Key.Kind() != wire.KindPod || !strings.HasSuffix(it.Key.Name(), "-"+strings.ToLower(m.node)) || !strings.HasPrefix(string(it.Body[:min(len(it.Body), len(mirrorRequest))]), mirrorRequest) {
		return false
	}
	o, ok := m.source.(Owners)
	return !ok || o.Owner(it.Key) == ""
}

// outboxState is one batch on its way to the Sink.
type outboxState struct {
	items    []wire.OutboxItem
	epoch    uint64 // of the newest item that came, stored or not
	seq      uint64
	failures int
	retryAt  moment
}

// due returns when the batch is to be stored again.
func (o *outboxState) due() moment {
	if o == nil {
		return 0
	}
	return o.retryAt
}

func (m *Machine) outboxReceived(f *wire.Outbox) {
	if m.outbox != nil {
		m.violation("outbox items came before others were acknowledged")
		return
	}
	if len(f.Items) == 0 {
		m.violation("an outbox frame without items")
		return
	}
	o := &outboxState{}
	var refused refusal
	for _, it := range f.Items {
		o.epoch, o.seq = it.Epoch, it.Seq
		if err := canon.Check(it.Body); err != nil {
			// Ending the session would bring it back for ever: it is dropped.
			refused.add(Refused{Reason: RefusedOutbox, Detail: fmt.Sprintf("outbox item %d/%d is dropped: %v", it.Epoch, it.Seq, err)})
			continue
		}
		o.items = append(o.items, it)
	}
	m.tell(refused)
	if len(o.items) == 0 {
		m.send(&wire.OutboxAck{Epoch: o.epoch, Seq: o.seq})
		return
	}
	m.outbox = o
	m.storeOutbox()
}

func (m *Machine) storeOutbox() {
	m.outbox.retryAt = 0
	m.do(StoreOutbox{Items: m.outbox.items})
}

func (m *Machine) outboxStored(err error, now moment) {
	o := m.outbox
	if o == nil {
		return
	}
	if err != nil {
		wait := time.Second << min(o.failures, 5)
		o.failures++
		o.retryAt = now.add(wait)
		if o.failures == 1 {
			m.do(Note{Text: fmt.Sprintf("%d outbox items of node %s could not be stored, trying again: %v", len(o.items), m.node, err)})
		}
		return
	}
	m.stats.OutboxItems += uint64(len(o.items))
	m.send(&wire.OutboxAck{Epoch: o.epoch, Seq: o.seq})
	m.outbox = nil
}
