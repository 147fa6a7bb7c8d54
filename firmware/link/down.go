package link

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// Limits of what the relay may make the agent hold in memory before it is durable.
const (
	maxCommitBytes = 16 << 20 // one commit
	maxQueueBytes  = 24 << 20 // all commits that are not yet applied
)

// inbound is the state of the stream of commits.
type inbound struct {
	lastID    uint64       // of the newest complete commit
	partial   *wire.Commit // being assembled
	parts     uint32       // of partial that are there
	queue     []wire.Commit
	bytes     int // bodies of partial and queue
	applying  bool
	conn      uint64 // whose commit is being applied
	failures  int    // of the first commit in queue
	retryAt   time.Time
	applySize int
}

// drop forgets what is not yet being applied; the digest of the next session tells the relay.
func (d *inbound) drop() {
	*d = inbound{applying: d.applying, conn: d.conn}
}

func (m *Machine) compare(c *wire.Compare, now time.Time) {
	if m.down.lastID != 0 {
		m.refuse(fmt.Errorf("asked to compare after the first commit"), now)
		return
	}
	f := &wire.Entries{}
	size := 0
	room := m.peerFrame - 1024
	for i := range wire.DigestBuckets {
		if !c.Buckets.Has(i) {
			continue
		}
		for _, e := range m.opts.Desired.Bucket(i) {
			if !e.Key.Kind().KnownTo(m.peerKinds) {
				continue // what a newer relay has sent stays as it is; an older one would refuse the frame
			}
			item := wire.EntryItem(e)
			n := item.Msgsize()
			if len(f.Entries) > 0 && (size+n > room || len(f.Entries) >= wire.MaxItems/2) {
				f.More = true
				m.send(f, now)
				f, size = &wire.Entries{}, 0
			}
			f.Entries = append(f.Entries, item)
			size += n
		}
	}
	m.send(f, now)
}

func (m *Machine) commitPart(p *wire.CommitPart, now time.Time) {
	d := &m.down
	if p.ID != d.lastID+1 || p.Part != d.parts {
		m.refuse(fmt.Errorf("part %d of commit %d came, part %d of %d was due", p.Part, p.ID, d.parts, d.lastID+1), now)
		return
	}
	if d.partial == nil {
		d.partial = &wire.Commit{ID: p.ID, Rules: p.Rules}
	}
	c := d.partial
	size := 0
	for i := range p.Put {
		if err := checkObject(&p.Put[i]); err != nil {
			m.refuse(err, now)
			return
		}
		size += len(p.Put[i].Body) + 256
	}
	d.bytes += size + 64*len(p.Delete)
	d.applySize += size
	if d.applySize > maxCommitBytes || d.bytes > maxQueueBytes {
		m.refuse(fmt.Errorf("commit %d makes %d bytes that are not yet stored, the limit is %d", p.ID, d.bytes, maxQueueBytes), now)
		return
	}
	c.Put = append(c.Put, p.Put...)
	c.Delete = append(c.Delete, p.Delete...)
	if p.More {
		d.parts++
		return
	}
	c.Revisions = wire.UnpackRevisions(p.Revisions)
	d.lastID, d.partial, d.parts, d.applySize = p.ID, nil, 0, 0
	d.queue = append(d.queue, *c)
	m.st.ObjectsReceived += uint64(len(c.Put))
	m.st.DeletesReceived += uint64(len(c.Delete))
	if d.retryAt.IsZero() {
		m.applyNext(now)
	}
}

// checkObject verifies that a body is what its version says, so that a damaged or forged one never reaches the store.
func checkObject(o *wire.Object) error {
	if o.Absent {
		if o.Version != wire.AbsentVersion() {
			return fmt.Errorf("%s: absent, with a version that is not that of an absent object", o.Key)
		}
		return nil
	}
	if canon.Hash(o.Body) != o.Version.Hash {
		return fmt.Errorf("%s: the body's hash is not the one announced", o.Key)
	}
	if err := canon.Check(o.Body); err != nil {
		return fmt.Errorf("%s: %w", o.Key, err)
	}
	return nil
}

func (m *Machine) applyNext(now time.Time) {
	d := &m.down
	d.retryAt = time.Time{}
	if d.applying || len(d.queue) == 0 {
		return
	}
	d.applying, d.conn = true, m.conn
	m.do(Apply{Conn: m.conn, Commit: d.queue[0]})
}

func (m *Machine) applied(e Applied, now time.Time) {
	d := &m.down
	d.applying = false
	if e.Err == nil {
		m.st.CommitsApplied++
	}
	if m.phase == phaseSettling {
		m.greet(now)
		return
	}
	if e.Conn != m.conn || len(d.queue) == 0 {
		return
	}
	if e.Err != nil {
		wait := min(time.Second<<min(d.failures, 5), m.opts.MaxBackoff)
		d.failures++
		d.retryAt = now.Add(wait)
		m.st.LastError = fmt.Sprintf("the store did not take commit %d: %v; trying again in %v", e.ID, e.Err, wait)
		m.st.ErrorAt = now
		m.note(fmt.Sprintf("the store did not take what the relay sent, it will be tried again: %v", e.Err), now)
		return
	}
	c := d.queue[0]
	d.queue[0] = wire.Commit{}
	d.queue = d.queue[1:]
	d.failures = 0
	for i := range c.Put {
		d.bytes -= len(c.Put[i].Body) + 256
		m.offerAgain(c.Put[i].Key, now)
	}
	d.bytes -= 64 * len(c.Delete)
	m.send(&wire.Ack{ID: e.ID}, now)
	m.applyNext(now)
}
