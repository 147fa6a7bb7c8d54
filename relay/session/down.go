package session

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// catchUp begins the comparison as soon as the caches are ready and have seen everything that the agent has seen. Until
// then nothing is sent, above all no deletion: a cache that is behind would take away what it does not know yet.
func (m *Machine) catchUp(now moment) {
	m.retryLater(now)
	want, ready := m.sourceKeys()
	if !ready {
		return
	}
	if kind, have, seen := m.behind(); kind != "" {
		if m.behindSince == 0 {
			m.behindSince = now
		}
		// Either this relay's caches hang, and another relay serves the agent; or the cluster is older than the agent, restored from a
		// backup. Nobody resets an agent for that by itself: its pods and devices run on with what they have until revisions pass what it
		// has seen, or an operator decides (docs/deploy.md, "When the cluster is restored from a backup").
		if now.since(m.behindSince) >= m.limits.OlderAfter {
			m.close(wire.CloseOlderState, fmt.Sprintf("the relay's cache of %s is at revision %d, and this gateway has seen %d: if the cluster was restored from a backup, the gateway's state must be reset", kind, have, seen), time.Minute)
		}
		return
	}
	m.recheck = 0
	m.compare(want)
	m.takeReport(now)
}

func (m *Machine) retryLater(now moment) { m.recheck = now.add(time.Second) }

// behind returns a kind whose cache has not seen a revision that the agent was told of.
func (m *Machine) behind() (kind wire.Kind, have, seen uint64) {
	if len(m.agentRevs) == 0 {
		return "", 0, 0
	}
	revs := m.source.Revisions()
	for _, k := range wire.Kinds() {
		if have, seen := revs[k], m.agentRevs[k]; have < seen {
			return k, have, seen
		}
	}
	return "", 0, 0
}

// compare finds out what the agent holds: everything in buckets whose sums are equal, and what it says about the others.
func (m *Machine) compare(want map[wire.Key]wire.Version) {
	m.comparing = m.outline.Differs(digestOf(maps.All(want)))
	m.held = make(holdings, 0, len(want))
	for k, v := range want {
		if m.comparing == 0 || !m.comparing.Has(k.Bucket()) {
			m.held = append(m.held, wire.Entry{Key: k, Version: v})
		}
	}
	m.held.sort()
	m.agentRevs = nil
	if m.comparing == 0 {
		m.up()
		return
	}
	m.phase = phaseComparing
	m.asked = m.comparing
	m.send(&wire.Compare{Buckets: m.comparing})
}

func digestOf(versions iter.Seq2[wire.Key, wire.Version]) *wire.Digest {
	d := new(wire.Digest)
	for k, v := range versions {
		d.Toggle(wire.Entry{Key: k, Version: v})
	}
	return d
}

// compareRest asks for the other buckets if what the agent has told does not make up what it holds: an outline may hide a
// difference beside others.
func (m *Machine) compareRest() bool {
	rest := ^m.asked
	if rest == 0 || digestOf(m.held.all()).Total() == m.outline.Total {
		return false
	}
	m.held = slices.DeleteFunc(m.held, func(e wire.Entry) bool { return rest.Has(e.Key.Bucket()) })
	m.asked, m.comparing = ^wire.BucketSet(0), rest
	m.send(&wire.Compare{Buckets: rest})
	return true
}

func (m *Machine) entries(e *wire.Entries) {
	if m.phase != phaseComparing {
		m.violation("entries that were not asked for")
		return
	}
	for i := range e.Entries {
		k := e.Entries[i].Key
		if !m.comparing.Has(k.Bucket()) {
			m.violation("%s is not in a bucket that was asked for", k)
			return
		}
		m.held = append(m.held, wire.Entry(e.Entries[i]))
	}
	if len(m.held) > m.limits.MaxEntries {
		m.close(wire.CloseLimit, fmt.Sprintf("the agent holds more than %d objects", m.limits.MaxEntries), 5*time.Minute)
		return
	}
	if e.More {
		return
	}
	m.held.sort()
	if m.compareRest() {
		return
	}
	// Anything that changed since the digests were compared is dirty already: the subscription is older than the session.
	want, _ := m.sourceKeys()
	m.foreign(want)
	m.markDifferences(want)
	m.up()
}

// markDifferences makes everything dirty that the agent does not hold as wanted, or holds and should not. It reports
// whether anything became dirty that was not. What is not wanted any more is not too large any more either: objects come and go for
// years in one session.
func (m *Machine) markDifferences(want map[wire.Key]wire.Version) bool {
	maps.DeleteFunc(m.tooLarge, func(k wire.Key, _ wire.Version) bool { return !wanted(want, k) })
	before := len(m.dirty)
	for k, v := range want {
		if i, ok := m.held.find(k); ok && m.held[i].Version == v {
			m.held[i] = wire.Entry{Key: k, Version: v} // the Source's own bytes, which others hold, too
		} else if m.tooLarge[k] != v {
			m.mark(k)
		}
	}
	for i := range m.held {
		if k := m.held[i].Key; !wanted(want, k) {
			m.mark(k)
		}
	}
	return len(m.dirty) > before
}

func (m *Machine) up() {
	m.phase = phaseUp
	m.outline = nil
	for i := range m.held {
		if _, ok := m.dirty[m.held[i].Key]; !ok {
			m.stats.ObjectsResumed++
		}
	}
}

func (m *Machine) ack(a *wire.Ack) {
	if a.ID > m.lastID || a.ID <= m.acked {
		m.violation("commit %d was acknowledged; sent were %d, acknowledged before were %d", a.ID, m.lastID, m.acked)
		return
	}
	m.acked = a.ID
	m.quota.unread = 0
	n := 0
	for n < len(m.inFlight) && m.inFlight[n].id <= a.ID {
		m.bytes -= m.inFlight[n].bytes
		n++
	}
	if m.inFlight = slices.Delete(m.inFlight, 0, n); len(m.inFlight) == 0 {
		m.inFlight = nil
	}
}

// pump sends commits while the window allows.
func (m *Machine) pump(now moment) {
	for m.phase == phaseUp && m.recheck == 0 && len(m.dirty) > 0 &&
		len(m.inFlight) < m.limits.InFlight && m.bytes < m.limits.InFlightBytes {
		if !m.sendCommit() {
			m.retryLater(now)
		}
	}
	if len(m.dirty) == 0 {
		m.dirty = nil
	}
	m.watchAcks(now)
	if m.phase == phaseUp && !m.synced && len(m.dirty) == 0 && len(m.inFlight) == 0 {
		m.synced = true
		m.send(&wire.Synced{})
	}
}

// draft is a commit that is being filled.
type draft struct {
	put    []wire.Object
	del    []wire.Key
	bytes  int
	inside map[wire.Key]wire.Version // what put holds; nil while it is searched instead
}

// version returns what the agent will hold of key when the draft is applied.
func (m *Machine) version(d *draft, key wire.Key) wire.Version {
	if v, ok := d.version(key); ok {
		return v
	}
	return m.held.version(key)
}

// searched is the largest number of objects that a draft looks through one by one. Nearly all commits have one.
const searched = 16

func (d *draft) version(key wire.Key) (wire.Version, bool) {
	if d.inside != nil {
		v, ok := d.inside[key]
		return v, ok
	}
	for i := len(d.put) - 1; i >= 0; i-- {
		if d.put[i].Key == key {
			return d.put[i].Version, true
		}
	}
	return wire.Version{}, false
}

func (d *draft) add(o wire.Object) {
	d.put = append(d.put, o)
	d.bytes += size(&o)
	switch {
	case d.inside != nil:
		d.inside[o.Key] = o.Version
	case len(d.put) > searched:
		d.inside = make(map[wire.Key]wire.Version, 2*len(d.put))
		for i := range d.put {
			d.inside[d.put[i].Key] = d.put[i].Version
		}
	}
}

func size(o *wire.Object) int { return len(o.Body) + len(o.Key) + len(o.Version.UID) + 64 }

// sendCommit takes dirty keys until the commit is full, and sends it. Puts go in the order of wire.Kinds; deletions wait
// until no put is dirty and go in the reverse order, so that nothing loses what it refers to while it is still there.
// It returns false if the Source cannot be relied on at the moment.
func (m *Machine) sendCommit() bool {
	d := &draft{}
	before := len(m.dirty)
	var gone []wire.Key
	full, sure := false, true
	for _, k := range m.sortedDirty() {
		obj, refs, ok := m.sourceObject(k)
		if !ok {
			gone = append(gone, k)
			continue
		}
		unit, verdict := m.unit(d, obj, refs)
		if verdict == unitUnsure {
			sure = false
			continue
		}
		if verdict == unitTooLarge {
			m.refuse(k, obj.Version)
			continue
		}
		if full = m.addUnit(d, k, unit); full {
			break
		}
	}
	if !full && sure && len(gone) > 0 {
		// Not ok may mean gone or not ready. Only a complete answer in which the key is missing allows a deletion.
		want, ready := m.sourceKeys()
		switch {
		case !ready:
			sure = false
		case m.markDifferences(want):
			// A notification is still on its way: what referred to the key changes or goes first.
			if len(d.put) == 0 {
				return true
			}
		default:
			m.addDeletes(d, gone, want)
		}
	}
	if len(d.put)+len(d.del) > 0 {
		m.commit(d)
		return sure
	}
	return sure && len(m.dirty) < before
}

// addUnit adds what belongs to the dirty key k, if there is room; full says that the commit has to go first.
func (m *Machine) addUnit(d *draft, k wire.Key, unit []wire.Object) (full bool) {
	bytes := 0
	for i := range unit {
		bytes += size(&unit[i])
	}
	if len(d.put) > 0 && d.bytes+bytes > m.limits.CommitBytes {
		return true
	}
	if bytes > m.limits.MaxCommitBytes && len(unit) > 1 {
		// Too much for one commit: the references go ahead one by one; this key stays dirty.
		d.add(unit[0])
		delete(m.dirty, unit[0].Key)
		return true
	}
	for _, o := range unit {
		d.add(o)
		delete(m.dirty, o.Key)
	}
	delete(m.dirty, k)
	return false
}

func (m *Machine) sortedDirty() []wire.Key {
	keys := make([]wire.Key, 0, len(m.dirty))
	for k := range m.dirty {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b wire.Key) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	return keys
}

// rank orders keys by wire.Kinds, without making the list each time.
func rank(k wire.Key) int {
	switch k.Kind() {
	case wire.KindNode:
		return 0
	case wire.KindConfigMap:
		return 1
	case wire.KindSecret:
		return 2
	case wire.KindDeviceModel:
		return 3
	case wire.KindRuntimeClass:
		return 4
	case wire.KindService:
		return 5
	case wire.KindPersistentVolume:
		return 6
	case wire.KindPersistentVolumeClaim:
		return 7
	case wire.KindPod:
		return 8
	}
	return 9
}

type unitVerdict uint8

const (
	unitReady    unitVerdict = iota
	unitTooLarge             // something of it is larger than a frame that the agent takes
	unitUnsure               // the Source does not know a reference at the moment
)

// unit returns what must go together for obj: the references that the agent does not hold at their newest version, then obj
// itself unless it is held.
func (m *Machine) unit(d *draft, obj wire.Object, refs []wire.Key) ([]wire.Object, unitVerdict) {
	var unit []wire.Object
	for _, r := range refs {
		o, _, ok := m.sourceObject(r)
		if !ok || !m.surelyAbsent(&o, &obj) {
			return nil, unitUnsure
		}
		if m.version(d, r) == o.Version || slices.ContainsFunc(unit, func(u wire.Object) bool { return u.Key == r }) {
			continue
		}
		if !m.sendable(&o, obj.Key) {
			return nil, unitTooLarge
		}
		unit = append(unit, o)
	}
	if m.version(d, obj.Key) != obj.Version {
		if !m.sendable(&obj, obj.Key) {
			return nil, unitTooLarge
		}
		unit = append(unit, obj)
	}
	return unit, unitReady
}

// surelyAbsent reports whether ref, if it is absent, was so when obj had come to be. A pod may go without what is optional, but
// not because one cache is slower than another. Whatever is there is sure.
func (m *Machine) surelyAbsent(ref, obj *wire.Object) bool {
	if !ref.Absent || ref.Revision >= obj.Revision {
		return true
	}
	if c, ok := m.source.(AbsenceConfirmer); ok {
		c.ConfirmAbsent(ref.Key, obj.Revision)
	}
	return false
}

// sendable reports whether o fits a frame, and says so once per version if it does not.
func (m *Machine) sendable(o *wire.Object, wantedBy wire.Key) bool {
	if size(o)+1024 <= int(m.peerFrame) {
		return true
	}
	if m.tooLarge[o.Key] != o.Version {
		m.refuse(o.Key, o.Version)
		m.do(Note{Text: fmt.Sprintf("%s has %d bytes, node %s takes %d in one frame: it is not sent, nor is %s", o.Key, len(o.Body), m.node, m.peerFrame, wantedBy)})
	}
	return false
}

// refuse leaves a key out until it changes.
func (m *Machine) refuse(k wire.Key, v wire.Version) {
	if m.tooLarge == nil {
		m.tooLarge = map[wire.Key]wire.Version{}
	}
	m.tooLarge[k] = v
	delete(m.dirty, k)
}

func (m *Machine) addDeletes(d *draft, gone []wire.Key, want map[wire.Key]wire.Version) {
	for _, k := range slices.Backward(gone) {
		if d.bytes > m.limits.CommitBytes && len(d.del) > 0 {
			return
		}
		if _, back := want[k]; back {
			continue // stays dirty
		}
		delete(m.dirty, k)
		if _, held := m.held.find(k); !held {
			continue
		}
		d.del = append(d.del, k)
		d.bytes += len(k) + 16
	}
}

func (m *Machine) commit(d *draft) {
	m.lastID++
	m.held = m.held.apply(d)
	high := m.revisions(d)
	m.inFlight = append(m.inFlight, sentCommit{id: m.lastID, bytes: d.bytes})
	m.bytes += d.bytes
	m.stats.CommitsSent++
	m.stats.ObjectsSent += uint64(len(d.put))
	m.stats.DeletesSent += uint64(len(d.del))
	m.sendParts(d, high)
}

// revisions returns what a cache must have seen to know of what is in the draft. It is asked for after the draft was filled: the
// newest change may be the one that took an object away.
func (m *Machine) revisions(d *draft) []uint64 {
	high := make(map[wire.Kind]uint64, 2)
	raise := func(kind wire.Kind, r uint64) { high[kind] = max(high[kind], r) }
	for i := range d.put {
		if o := &d.put[i]; o.Absent { // as of a revision that only this relay may have been told of
			raise(o.Key.Kind(), m.source.Changed(o.Key.Kind()))
		} else {
			raise(o.Key.Kind(), o.Revision)
		}
	}
	for _, k := range d.del {
		raise(k.Kind(), m.source.Changed(k.Kind()))
	}
	return wire.PackRevisions(high)
}

// sendParts cuts a commit into frames; an object is never cut. Frames share the draft's memory, and the bodies are the Source's.
func (m *Machine) sendParts(d *draft, revs []uint64) {
	limit := min(m.limits.PartBytes, int(m.peerFrame)-1024)
	puts, dels := 0, 0 // sent so far
	part := uint32(0)
	send := func(put, del int, last bool) {
		f := &wire.CommitPart{ID: m.lastID, Part: part, More: !last, Rules: m.rules, Put: d.put[puts:put:put], Delete: d.del[dels:del:del]}
		if last {
			f.Revisions = revs
		}
		m.send(f)
		puts, dels, part = put, del, part+1
	}
	bytes := 0
	next := func(put, del, n int) {
		if count := put - puts + del - dels; count > 0 && (bytes+n > limit || count >= wire.MaxItems/2) {
			send(put, del, false)
			bytes = 0
		}
		bytes += n
	}
	for i := range d.put {
		next(i, 0, size(&d.put[i]))
	}
	for i := range d.del {
		next(len(d.put), i, len(d.del[i])+16)
	}
	send(len(d.put), len(d.del), true)
}
