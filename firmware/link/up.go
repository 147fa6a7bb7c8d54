package link

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// Sizes of what is sent up.
const (
	batchBytes  = 64 << 10 // of one report or outbox batch; a larger body travels alone
	batchItems  = 512
	outboxItems = 128
	itemExtra   = 32 // bytes that an item takes beside key and body, at most
)

// report is the newest state of one key.
type report struct {
	body   []byte
	acked  [16]byte // hash of the body that the relay acknowledged in this session
	known  bool     // acked is valid
	queued bool     // in outbound.dirty
	sent   [16]byte // hash of the body in the batch in flight, if inBatch
	gone   bool     // withdrawn; kept only while it is in dirty
	// offered says that acked is the hash that was offered, and that nothing has been sent since: it becomes known with the
	// relay's answer, unless the relay wants the body.
	offered bool
	// anew says that the body has to be sent even if the relay acknowledges, or has acknowledged, this very one: it was asked
	// for since.
	anew bool
}

// outbound conflates reports: a set of dirty keys in the order in which they became dirty, and one batch in flight.
type outbound struct {
	reports map[wire.Key]*report
	dirty   []wire.Key
	since   time.Time // when dirty was last empty and something came
	batch   []wire.Key
	seq     uint64
	offer   offer
}

func (u *outbound) pending() int { return len(u.dirty) + len(u.batch) + u.offer.pending }

func (m *Machine) report(key wire.Key, body []byte, now time.Time) {
	r := m.up.reports[key]
	if r == nil {
		r = &report{}
		m.up.reports[key] = r
	}
	r.body, r.gone = body, false
	m.queue(key, r, now)
}

func (m *Machine) queue(key wire.Key, r *report, now time.Time) {
	if r.queued {
		return
	}
	r.queued = true
	if len(m.up.dirty) == 0 {
		m.up.since = now
	}
	m.up.dirty = append(m.up.dirty, key)
}

func (m *Machine) withdraw(key wire.Key) {
	r := m.up.reports[key]
	if r == nil {
		return
	}
	r.gone, r.known, r.offered, r.body = true, false, false, nil
	if !r.queued {
		delete(m.up.reports, key)
	}
}

// offerAgain queues the report on an object that came anew: if it was deleted and made again under the same name, what the
// relay acknowledged went to its predecessor.
func (m *Machine) offerAgain(k wire.Key, now time.Time) {
	if r := m.up.reports[k]; r != nil && !r.gone {
		r.known, r.offered, r.anew = false, false, true
		m.queue(k, r, now)
	}
}

// flushAt returns when the next batch is due: a window after the first dirty key, and only when none is in flight.
func (m *Machine) flushAt() time.Time {
	if len(m.up.batch) > 0 || len(m.up.dirty) == 0 {
		return time.Time{}
	}
	return m.up.since.Add(m.opts.Window)
}

func (m *Machine) flush(now time.Time) {
	u := &m.up
	f := &wire.Report{}
	size, taken := 0, 0
	for _, k := range u.dirty {
		r := u.reports[k]
		n := len(k) + len(r.body) + itemExtra
		if len(f.Items) > 0 && (size+n > batchBytes || len(f.Items) == batchItems) {
			break
		}
		taken++
		r.queued, r.offered = false, false
		if r.gone {
			delete(u.reports, k)
			continue
		}
		hash := canon.Hash(r.body)
		if r.known && hash == r.acked && !r.anew {
			continue
		}
		r.anew = false
		if n > m.peerFrame-64 {
			m.note(fmt.Sprintf("the status of %s has %d bytes, the relay takes %d: it is not reported; shorten it", k, len(r.body), m.peerFrame), now)
			continue
		}
		r.sent = hash
		size += n
		f.Items = append(f.Items, wire.ReportItem{Key: k, Body: r.body})
		u.batch = append(u.batch, k)
	}
	u.dirty = append(u.dirty[:0], u.dirty[taken:]...)
	u.since = now
	if len(f.Items) == 0 {
		return
	}
	u.seq++
	f.Seq = u.seq
	m.st.ReportsSent += uint64(len(f.Items))
	m.send(f, now)
}

func (m *Machine) reportAck(a *wire.ReportAck, now time.Time) {
	u := &m.up
	if a.Seq != u.seq || len(u.batch) == 0 {
		m.refuse(fmt.Errorf("acknowledged reports %d, the newest sent are %d", a.Seq, u.seq), now)
		return
	}
	for _, k := range u.batch {
		if r := u.reports[k]; r != nil {
			r.acked, r.known = r.sent, true
		}
	}
	u.batch = u.batch[:0]
}

// outboxState is the state of the stream of outbox items: one batch is read, sent and acknowledged at a time.
type outboxState struct {
	reading    bool // a ReadOutbox is under way
	again      bool // something may have come since it was asked for
	inFlight   bool
	epoch, seq uint64 // newest item in flight
}

func (m *Machine) readOutbox() {
	o := &m.outboxUp
	if m.opts.Outbox == nil || m.phase != phaseUp || o.inFlight {
		o.again = o.again || o.inFlight
		return
	}
	if o.reading {
		o.again = true
		return
	}
	o.reading, o.again = true, false
	m.do(ReadOutbox{Conn: m.conn, Limit: outboxItems})
}

func (m *Machine) outboxRead(e OutboxRead, now time.Time) {
	o := &m.outboxUp
	o.reading = false
	if m.phase != phaseUp {
		return
	}
	if e.Conn != m.conn || (len(e.Items) == 0 && o.again) {
		m.readOutbox()
		return
	}
	f := &wire.Outbox{}
	size := 0
	for _, it := range e.Items {
		n := len(it.Body) + len(it.Kind) + itemExtra
		if len(f.Items) > 0 && size+n > batchBytes {
			break
		}
		if n > m.peerFrame-64 {
			if len(f.Items) > 0 {
				break
			}
			// It could never be sent, and all later ones would wait behind it.
			m.do(Note{Warn: true, Text: fmt.Sprintf("an outbox item of kind %q has %d bytes, the relay takes %d: it is dropped", it.Kind, len(it.Body), m.peerFrame)})
			m.do(ForgetOutbox{Epoch: it.Epoch, Seq: it.Seq})
			m.readOutbox()
			return
		}
		size += n
		f.Items = append(f.Items, it)
		o.epoch, o.seq = it.Epoch, it.Seq
	}
	if len(f.Items) == 0 {
		return
	}
	o.inFlight = true
	m.st.OutboxSent += uint64(len(f.Items))
	m.send(f, now)
}

func (m *Machine) outboxAck(a *wire.OutboxAck) {
	o := &m.outboxUp
	if !o.inFlight || a.Epoch != o.epoch || a.Seq != o.seq {
		return // of an earlier batch: harmless
	}
	o.inFlight = false
	m.do(ForgetOutbox{Epoch: a.Epoch, Seq: a.Seq})
	m.readOutbox()
}
