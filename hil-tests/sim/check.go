package sim

import (
	"fmt"
	"maps"
	"strings"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// Violation is a promise that was broken.
type Violation struct {
	At   string // virtual time
	Rule string
	Text string
}

// String gives one line.
func (v Violation) String() string { return v.At + "  " + v.Rule + ": " + v.Text }

func (s *Sim) fail(rule, format string, args ...any) {
	v := Violation{At: clock(s.now.Sub(s.began)), Rule: rule, Text: fmt.Sprintf(format, args...)}
	s.violations = append(s.violations, v)
	s.note("VIOLATION", rule, v.Text)
}

// Bounds of what relays and agents may hold, as numbers of things of the load.
const (
	maxQueue    = 64 // actions of one session that wait for its pump
	maxReports  = 64 // keys that a sink keeps for one session
	maxInFlight = 4  // commits that are sent and not acknowledged
)

// checker watches what happens and knows what may not.
type checker struct {
	s *Sim
	// highest is the newest report of each agent that was ever written to an object.
	highest  map[written]uint64
	frontier map[boxed]*frontier
	upward   int // writes of reports that were checked
}

// written names the part of an API object that carries reports, and whose.
type written struct {
	resource, uid string
	agent         int
}

// boxed names an outbox epoch of a node.
type boxed struct {
	node  string
	epoch uint64
}

// frontier is up to where the items of an epoch are stored or were dropped by the outbox itself.
type frontier struct {
	upTo uint64
	done map[uint64]bool
}

func newChecker(s *Sim) *checker {
	return &checker{s: s, highest: map[written]uint64{}, frontier: map[boxed]*frontier{}}
}

// Reports carry a counter that names its agent, too.
const agentsAtMost = 16

func countOf(agent int, n uint64) uint64 { return n*agentsAtMost + uint64(agent) }

// wrote sees every write to the API server.
func (c *checker) wrote(by string, old, now *object) {
	if now.resource == events {
		c.event(now)
		return
	}
	if !strings.HasPrefix(by, "relay-") {
		return
	}
	n := reportedIn(now)
	if n == 0 || old != nil && old.uid == now.uid && reportedIn(old) == n {
		return
	}
	c.upward++
	w := written{now.resource, now.uid, int(n % agentsAtMost)}
	if high := c.highest[w]; n < high {
		c.s.fail("older report", "%s wrote report %d to %s %s, where report %d of the same agent had been written", by, n, now.resource, now.name, high)
	}
	c.highest[w] = max(c.highest[w], n)
}

// restored forgets what a backup made undone.
func (c *checker) restored() {
	clear(c.highest)
	for _, resource := range []string{nodes, pods, devices, deviceStatuses} {
		for _, o := range c.s.api.objects[resource] {
			if n := reportedIn(o); n > 0 {
				c.highest[written{resource, o.uid, int(n % agentsAtMost)}] = n
			}
		}
	}
}

// removed sees every removal at the API server.
func (c *checker) removed(by string, o *object) {
	if o.resource != pods || !strings.HasPrefix(by, "relay-") {
		return
	}
	if !o.deleting() {
		c.s.fail("live pod", "%s removed %s, which nobody had deleted", by, o.key())
	}
	for _, a := range c.s.agents {
		if p := a.runtime[o.uid]; p != nil && p.running {
			c.s.fail("live pod", "%s removed %s, whose containers run on %s", by, o.key(), a.node)
		}
	}
}

// event sees each event that is stored, once: the API server knows its name.
func (c *checker) event(o *object) {
	node, item, ok := itemOf(o.name)
	if !ok {
		c.s.fail("outbox", "an event has the name %s", o.name)
		return
	}
	c.s.count.stored++
	f := c.box(node, item[0])
	if item[1] != f.upTo+1 {
		c.s.fail("outbox order", "item %d/%d of %s was stored before item %d", item[0], item[1], node, f.upTo+1)
	}
	f.take(item[1])
}

func (c *checker) box(node string, epoch uint64) *frontier {
	k := boxed{node, epoch}
	if c.frontier[k] == nil {
		c.frontier[k] = &frontier{done: map[uint64]bool{}}
	}
	return c.frontier[k]
}

func (f *frontier) take(seq uint64) {
	f.done[seq] = true
	for f.done[f.upTo+1] {
		f.upTo++
		delete(f.done, f.upTo)
	}
}

// dropped hears of items that an outbox gave up because it was full.
func (c *checker) dropped(a *agent, it wire.OutboxItem) {
	c.s.count.dropped++
	c.box(a.node, it.Epoch).take(it.Seq)
}

// forgets is asked before an agent forgets acknowledged items.
func (c *checker) forgets(a *agent, epoch, seq uint64) {
	for _, it := range a.store.Pending(0, 1<<20) {
		if it.Epoch < epoch || it.Epoch == epoch && it.Seq <= seq {
			if f := c.box(a.node, it.Epoch); it.Seq > f.upTo {
				c.s.fail("outbox lost", "%s forgets item %d/%d, which was never stored", a.node, it.Epoch, it.Seq)
			}
		}
	}
}

// outbox checks that an outbox is bounded.
func (c *checker) outbox(a *agent) {
	if n, _ := a.store.Level(); a.s.world.outbox() > 0 && n > a.s.world.outbox() {
		c.s.fail("memory", "the outbox of %s holds %d items", a.node, n)
	}
}

// relayQueue checks that a session's shell holds little, however slow its agent is.
func (c *checker) relayQueue(n *conn) {
	c.s.count.longestQueue = max(c.s.count.longestQueue, len(n.queue))
	if len(n.queue) > maxQueue {
		c.s.fail("memory", "%s: %d actions wait for the pump", n.who, len(n.queue))
	}
	if n.unacked > maxInFlight {
		c.s.fail("memory", "%s: %d commits are in flight", n.who, n.unacked)
	}
}

// memory samples what sinks and agents hold.
func (c *checker) memory() {
	for _, r := range c.s.relays {
		if r.dead {
			continue
		}
		for _, info := range r.sink.Sessions() {
			if info.Reports > maxReports {
				c.s.fail("memory", "%s keeps %d reports of %s", r.who, info.Reports, info.Node)
			}
		}
	}
	for _, a := range c.s.agents {
		if !a.up {
			continue
		}
		if n := a.machine.Status().ReportsPending; n > len(a.reports)+maxReports {
			c.s.fail("memory", "%s has %d reports pending of %d keys", a.node, n, len(a.reports))
		}
	}
}

// applied sees what an agent holds after each commit. before is what it held.
func (c *checker) applied(a *agent, commit wire.Commit, before map[wire.Key]wire.Version) {
	api := c.s.api
	want := maps.Clone(before)
	for i := range commit.Put {
		o := &commit.Put[i]
		if v, ok := before[o.Key]; ok && v == o.Version {
			c.s.fail("sent again", "commit %d sends %s to %s, which holds it", commit.ID, o.Key, a.node)
		}
		want[o.Key] = o.Version
		if now := orderOf(o); api.restores == 0 && now > 0 {
			if old := a.seen[o.Key]; old.uid == o.Version.UID && now < old.order {
				c.s.fail("overtaken", "commit %d takes %s on %s back from state %d to %d", commit.ID, o.Key, a.node, old.order, now)
			}
			a.seen[o.Key] = sighting{o.Version.UID, now}
		}
	}
	for _, k := range commit.Delete {
		if _, ok := before[k]; !ok {
			c.s.fail("not held", "commit %d deletes %s, which %s does not hold", commit.ID, k, a.node)
		}
		delete(want, k)
		c.deleted(a, commit, k)
	}
	if got := a.store.Versions(); !maps.Equal(got, want) {
		c.s.fail("store", "after commit %d, %s holds %s", commit.ID, a.node, differences(got, want))
	}
	for _, k := range a.store.Keys() {
		v := a.view(k)
		if v == nil {
			continue
		}
		for _, r := range v.refs {
			if _, ok := a.store.Get(r.key); !ok {
				c.s.fail("reference", "after commit %d, %s holds %s without %s", commit.ID, a.node, k, r.key)
			}
		}
	}
}

// deleted checks that a pod which an agent is told to drop is really gone, or no longer its own: a restore may have undone that it
// was bound, and another node may be chosen.
func (c *checker) deleted(a *agent, commit wire.Commit, k wire.Key) {
	if k.Kind() != wire.KindPod {
		return
	}
	o := c.s.api.get(pods, k.Namespace()+"/"+k.Name())
	if o != nil && o.uid == k.UID() && o.node() == a.node && !c.s.api.returned[o.uid] {
		c.s.fail("live pod", "commit %d takes %s away from %s, and it lives", commit.ID, k, a.node)
	}
}

// starts is asked before containers of a pod are started for the first time, or again after a power cut.
func (c *checker) starts(a *agent, k wire.Key, v *view, again bool) {
	pod, _ := a.store.Get(k)
	for _, r := range v.refs {
		o, ok := a.store.Get(r.key)
		switch {
		case !ok:
			c.s.fail("reference", "%s starts %s without %s", a.node, k, r.key)
		case o.Absent && !r.optional:
			c.s.fail("reference", "%s starts %s although %s is missing and not optional", a.node, k, r.key)
		case o.Absent && !again && c.s.api.restores == 0 && !c.s.api.missingSince(r.key, pod.Revision):
			c.s.fail("absent", "%s starts %s of revision %d without %s, said to be absent as of %d; it existed before the pod and ever since",
				a.node, k, pod.Revision, r.key, o.Revision)
		}
	}
}

// afterCrash checks that what an agent had acknowledged outlived the crash.
func (c *checker) afterCrash(a *agent) {
	for _, k := range sortedKeys(a.acked) {
		o, ok := a.store.Durable(k)
		if v := a.acked[k]; v.gone && ok && o.Version == v.version || !v.gone && (!ok || o.Version != v.version) {
			if a.pending[k] {
				continue // by a commit that had reached the disk and was not acknowledged
			}
			c.s.fail("durable", "%s had acknowledged a commit with %s, and a crash undid it", a.node, k)
			return
		}
	}
}

// acknowledges notes what an agent tells the relay to be durable.
func (a *agent) acknowledges(commit *wire.Commit) {
	for i := range commit.Put {
		a.acked[commit.Put[i].Key] = acked{version: commit.Put[i].Version}
		delete(a.pending, commit.Put[i].Key)
	}
	for _, k := range commit.Delete {
		a.acked[k] = acked{version: a.acked[k].version, gone: true}
		delete(a.pending, k)
	}
}

// acked is what an agent last acknowledged of a key.
type acked struct {
	version wire.Version
	gone    bool
}

// sighting is the state of a key that an agent was last sent.
type sighting struct {
	uid   string
	order uint64
}

// orderOf numbers the states of an object: the load counts up with each change that is not a status.
func orderOf(o *wire.Object) uint64 {
	if o.Absent {
		return 0
	}
	v, err := canon.ToValue(o.Body)
	if err != nil {
		return 0
	}
	return number(payloadOf(v))
}

func differences(got, want map[wire.Key]wire.Version) string {
	var list []string
	for _, k := range sortedKeys(got) {
		if v, ok := want[k]; !ok {
			list = append(list, "+"+string(k))
		} else if v != got[k] {
			list = append(list, "≠"+string(k))
		}
	}
	for _, k := range sortedKeys(want) {
		if _, ok := got[k]; !ok {
			list = append(list, "-"+string(k))
		}
	}
	return fmt.Sprintf("%d objects, should hold %d: %s", len(got), len(want), strings.Join(list, " "))
}
