package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

// Options names one run.
type Options struct {
	World    World
	Seed     uint64
	Mutation Mutation
	Trace    io.Writer // every event, as it happens; may be nil
}

// Result is what a run found.
type Result struct {
	World      string
	Seed       uint64
	Events     uint64
	Simulated  time.Duration
	Hash       uint64 // of the whole trace
	Violations []Violation
	Trace      []string // the last events
	Counts     Counts
}

// Counts says how much happened.
type Counts struct {
	Sessions, Commits, ObjectsSent, ObjectsResumed, DeletesSent, Reports, ReportsRefused uint64
	Events, Stored, Dropped, Requests, Fenced, AgentCrashes, RelayCrashes, Settled       uint64
	Streams, Streamed                                                                    uint64 // opened, and bytes that they carried
	Upward                                                                               int
	LongestQueue                                                                         int
}

// counts is what a run counts while it goes on.
type counts struct {
	sessions, commits, events, stored, dropped, fenced, agentCrashes, relayCrashes, settled uint64
	bytes, streams, streamed                                                                uint64
	longestQueue                                                                            int
	closes                                                                                  map[wire.CloseCode]int
	stats                                                                                   session.Stats
}

func (c *counts) add(st session.Stats) {
	c.stats.ObjectsSent += st.ObjectsSent
	c.stats.ObjectsResumed += st.ObjectsResumed
	c.stats.DeletesSent += st.DeletesSent
	c.stats.Reports += st.Reports
	c.stats.ReportsRefused += st.ReportsRefused
}

// Sim is one simulation. It belongs to one goroutine, in a synctest bubble, whose clock is its clock.
type Sim struct {
	opts     Options
	world    World
	r        *rand.Rand
	began    time.Time
	now      time.Time
	queue    timeline
	order    uint64
	events   uint64
	requests uint64
	current  *proc
	spawned  []spawn
	marked   []*conn

	trace      tracer
	violations []Violation
	check      *checker
	count      counts

	api      *api
	relays   []*relay
	agents   []*agent
	cutoffs  []cutoff
	conns    int
	payloads int
	stopped  bool
	buffer   []byte
}

// Run plays one seed of a world. It must be called in a synctest bubble.
func Run(o Options) *Result {
	s := &Sim{
		opts: o, world: o.World, r: rand.New(rand.NewPCG(o.Seed, 0x5eed)), began: time.Now(), now: time.Now(),
		count: counts{closes: map[wire.CloseCode]int{}},
	}
	s.trace.out = o.Trace
	s.check = newChecker(s)
	s.api = newAPI(s)
	for i := range s.world.Relays {
		s.relays = append(s.relays, s.startRelay(i, 1))
	}
	for i := range s.world.Agents {
		s.agents = append(s.agents, s.newAgent(i))
	}
	for _, a := range s.agents {
		s.after(s.upTo(2*time.Second), a.boot)
	}
	s.after(10*time.Second, s.controllers)
	s.play()
	res := s.result()
	s.shutdown()
	return res
}

// play alternates rounds of load and faults with quiet times, and checks after each that everything has come right.
func (s *Sim) play() {
	hostile := s.world
	for range hostile.Rounds {
		s.world = hostile
		for end := s.now.Add(s.world.Round); s.now.Before(end) && len(s.violations) == 0; {
			s.change()
			s.trouble()
			s.check.memory()
			s.run(s.upTo(s.world.pace()))
		}
		if s.chance(s.world.Restore) {
			s.api.restore()
		}
		s.run(s.upTo(s.world.quietFor()))
		s.world = hostile.quiet()
		s.settle()
		if len(s.violations) > 0 {
			return
		}
	}
}

// controllers plays the node controller: it marks nodes whose Lease has run out.
func (s *Sim) controllers() {
	for _, name := range s.api.names(nodes) {
		n := s.api.get(nodes, name)
		if s.leaseAge(n.node()) > 50*time.Second && readiness(n) == "True" {
			s.api.modify(n, "node controller", func(data map[string]any) {
				list, _ := dig(data, "status", "conditions").([]any)
				for _, c := range list {
					if dig(c, "type") == "Ready" {
						m := c.(map[string]any)
						m["status"], m["message"] = "Unknown", "the node does not report"
					}
				}
			})
		}
	}
	for _, r := range s.relays {
		for _, c := range r.cursors {
			c.mark()
		}
	}
	s.after(10*time.Second, s.controllers)
}

func (s *Sim) leaseAge(node string) time.Duration {
	l := s.api.get(leases, "kube-node-lease/"+node)
	if l == nil {
		return 1 << 62
	}
	text, _ := dig(l.data, "spec", "renewTime").(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 1 << 62
	}
	return s.now.Sub(at)
}

func readiness(node *object) string {
	list, _ := dig(node.data, "status", "conditions").([]any)
	for _, c := range list {
		if dig(c, "type") == "Ready" {
			text, _ := dig(c, "status").(string)
			return text
		}
	}
	return ""
}

func (s *Sim) shutdown() {
	for _, r := range s.relays {
		if !r.dead {
			r.crash()
		}
	}
	s.spawned, s.marked, s.queue, s.stopped = nil, nil, nil, true
}

func (s *Sim) result() *Result {
	for _, r := range s.relays {
		for _, c := range r.conns {
			s.count.add(c.machine.Stats())
		}
	}
	st := &s.count.stats
	return &Result{
		World: s.opts.World.Name, Seed: s.opts.Seed, Events: s.events, Simulated: s.now.Sub(s.began),
		Hash: s.trace.hash, Violations: s.violations, Trace: s.trace.last(),
		Counts: Counts{
			Sessions: s.count.sessions, Commits: s.count.commits, ObjectsSent: st.ObjectsSent, ObjectsResumed: st.ObjectsResumed,
			DeletesSent: st.DeletesSent, Reports: st.Reports, ReportsRefused: st.ReportsRefused,
			Events: s.count.events, Stored: s.count.stored, Dropped: s.count.dropped, Requests: s.requests,
			Fenced: s.count.fenced, AgentCrashes: s.count.agentCrashes, RelayCrashes: s.count.relayCrashes,
			Settled: s.count.settled, Streams: s.count.streams, Streamed: s.count.streamed, Upward: s.check.upward, LongestQueue: s.count.longestQueue,
		},
	}
}

// String tells what a failing seed needs to be found again.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "world %q, seed %d: %d events in %v simulated, trace hash %016x\n", r.World, r.Seed, r.Events, r.Simulated.Round(time.Second), r.Hash)
	for _, line := range r.Trace {
		b.WriteString("  " + line + "\n")
	}
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "violated: %v\n", v)
	}
	return b.String()
}

func (s *Sim) broken(m Mutation) bool { return s.opts.Mutation == m }

func (s *Sim) chance(p float64) bool { return p > 0 && s.r.Float64() < p }

// upTo is a time between nothing and d.
func (s *Sim) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(s.r.Int64N(int64(d)))
}

func (s *Sim) netDelay() time.Duration { return s.upTo(s.world.Delay) }

// detailed says what of the API traffic the trace shows: renewed Leases would fill it.
func (s *Sim) detailed(resource, verb string) bool {
	return resource != leases || verb != "patch" || s.opts.Trace != nil && false
}
