package sim

import (
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

// World says how hostile a simulated world is. Probabilities are per event of their kind; a duration is the longest that
// something takes, each time another.
type World struct {
	Name           string
	Agents, Relays int
	Rounds         int           // of load and faults
	Round          time.Duration // the length of one
	Quiet          time.Duration // at most between two rounds, faults go on; default 12 min
	Pace           time.Duration // at most between two changes within a round; default 4 s

	// Network.
	Delay     time.Duration
	Refuse    float64 // a dial fails
	Drop      float64 // a connection breaks when a frame is sent
	Silent    float64 // a connection swallows everything when a frame is sent: half-open
	Partition float64 // per change: an agent, or all agents, cannot reach a relay, or any; connections live on if it heals
	Deaf      float64 // per change: an agent reads nothing for up to two minutes

	// Agents.
	Sync         time.Duration // of one commit
	SyncFail     float64       // a write fails
	CrashOnApply float64       // around a commit, before or after it is durable
	AgentCrash   float64       // per change
	Outbox       int           // items that fit; default 5,000

	// Relays.
	RelayCrash float64 // per change
	RelayStop  float64 // per change: in order, as for an update
	Skew       time.Duration

	// Watches.
	Lag        time.Duration
	Stall      float64 // per delivery: the kind's watch stands still
	StallFor   time.Duration
	WatchBreak float64 // per delivery
	StaleList  float64 // a list shows an older state

	Bandwidth int // bytes a second and direction; 0: any number

	// Streams between agent and relay: chance that an end opens one, each time that its users look, about three times a second.
	Streams float64

	// API server.
	APIDelay time.Duration
	APILost  float64 // a request, or its answer, is lost
	APILate  float64 // a request is under way for up to two minutes, as if its relay had frozen before it sent it
	APIDown  float64 // per change: refuses all for up to two minutes
	APICut   float64 // per change: one relay cannot reach it for up to two minutes
	Restore  float64 // per round: restored from an older backup
}

// Worlds returns the worlds that a simulation knows, from calm to hostile.
func Worlds() []World {
	base := World{
		Agents: 3, Relays: 2, Rounds: 3, Round: 4 * time.Minute,
		Delay: 40 * time.Millisecond, Sync: 30 * time.Millisecond, Lag: 30 * time.Millisecond, APIDelay: 10 * time.Millisecond,
	}
	world := func(name string, change func(w *World)) World {
		w := base
		w.Name = name
		change(&w)
		return w
	}
	return []World{
		world("calm", func(*World) {}),
		world("slow", func(w *World) { w.Delay, w.Sync, w.APIDelay = 2*time.Second, 3*time.Second, 2*time.Second }),
		world("lossy", func(w *World) { w.Drop, w.Refuse, w.Delay = 0.03, 0.3, 400*time.Millisecond }),
		world("half-open", func(w *World) { w.Silent, w.Delay = 0.02, 300*time.Millisecond }),
		world("partitions", func(w *World) { w.Partition, w.Delay, w.Relays = 0.06, 200*time.Millisecond, 3 }),
		world("slow readers", func(w *World) { w.Deaf, w.Pace = 0.06, time.Second }),
		world("bad disks", func(w *World) { w.SyncFail, w.Sync, w.Outbox = 0.25, 2*time.Second, 20 }),
		world("agents crash", func(w *World) { w.AgentCrash, w.CrashOnApply, w.Drop = 0.05, 0.06, 0.005 }),
		world("relays crash", func(w *World) { w.RelayCrash, w.RelayStop, w.StaleList, w.Lag = 0.04, 0.02, 0.2, time.Second }),
		world("watches lag", func(w *World) {
			w.Lag, w.Stall, w.StallFor, w.WatchBreak, w.StaleList = 3*time.Second, 0.05, 40*time.Second, 0.02, 0.5
			w.Drop, w.Relays = 0.01, 3
		}),
		world("API trouble", func(w *World) { w.APILost, w.APIDown, w.APIDelay, w.Drop = 0.05, 0.02, time.Second, 0.005 }),
		world("split brain", func(w *World) {
			w.APICut, w.APIDelay, w.Drop, w.Silent, w.Lag, w.Relays = 0.06, 500*time.Millisecond, 0.03, 0.01, time.Second, 3
		}),
		world("late requests", func(w *World) {
			w.APILate, w.APIDelay, w.Drop, w.Silent, w.Lag = 0.02, 200*time.Millisecond, 0.02, 0.01, 500*time.Millisecond
		}),
		world("clocks", func(w *World) { w.Skew, w.Drop, w.Silent, w.RelayCrash = 20*time.Second, 0.02, 0.005, 0.01 }),
		world("restores", func(w *World) { w.Restore, w.Drop, w.Lag, w.AgentCrash = 0.7, 0.01, time.Second, 0.01 }),
		world("streams", func(w *World) {
			w.Streams, w.Pace, w.Round, w.Quiet, w.Delay, w.Bandwidth = 0.12, time.Second, 2*time.Minute, time.Minute, 100*time.Millisecond, 32<<10
			w.Deaf, w.Drop, w.Silent, w.Partition = 0.008, 0.0005, 0.00005, 0.004
			w.AgentCrash, w.RelayStop, w.RelayCrash = 0.004, 0.004, 0.002
		}),
		world("all of it", func(w *World) {
			w.Delay, w.Drop, w.Silent, w.Refuse, w.Partition, w.Deaf = 500*time.Millisecond, 0.01, 0.005, 0.1, 0.01, 0.01
			w.Sync, w.SyncFail, w.CrashOnApply, w.AgentCrash, w.Outbox = 500*time.Millisecond, 0.05, 0.02, 0.01, 40
			w.RelayCrash, w.RelayStop, w.Skew, w.Relays = 0.01, 0.005, 5*time.Second, 3
			w.Lag, w.Stall, w.StallFor, w.WatchBreak, w.StaleList = time.Second, 0.02, 30*time.Second, 0.01, 0.3
			w.APIDelay, w.APILost, w.APIDown, w.APICut = 300*time.Millisecond, 0.02, 0.005, 0.01
		}),
	}
}

// quiet is the world without its faults: what settles in it must come right. What is slow by nature stays so.
func (w World) quiet() World {
	q := World{
		Name: w.Name, Agents: w.Agents, Relays: w.Relays, Rounds: w.Rounds, Round: w.Round, Quiet: w.Quiet, Pace: w.Pace, Bandwidth: w.Bandwidth,
		Delay: min(w.Delay, time.Second), Sync: min(w.Sync, time.Second), Lag: min(w.Lag, time.Second), Outbox: w.Outbox,
		APIDelay: min(w.APIDelay, 500*time.Millisecond), Skew: w.Skew,
	}
	return q
}

func (w *World) quietFor() time.Duration {
	if w.Quiet > 0 {
		return w.Quiet
	}
	return 12 * time.Minute
}

func (w *World) pace() time.Duration {
	if w.Pace > 0 {
		return w.Pace
	}
	return 4 * time.Second
}

func (w *World) outbox() int { return w.Outbox }

// down is how long a crashed agent or relay stays down at most: sometimes longer than a Lease lives.
func (w *World) down() time.Duration { return 90 * time.Second }

// limits are a relay's, small enough that ordinary commits are cut into several frames.
func (w *World) limits() session.Limits {
	return session.Limits{CommitBytes: 2000, PartBytes: 700, OlderAfter: 10 * time.Minute}
}

// Mutation breaks one thing on purpose, to show that the checks find it.
type Mutation int

// The mutations.
const (
	Intact           Mutation = iota
	IgnoreRevisions           // relays claim to know every revision
	IgnoreReferences          // relays send pods without what they refer to
	IgnoreFencing             // whoever asks for a Lease is told that it is still its own
	BlindWrites               // the API server checks no resourceVersion: a sink that ignores conflicts
	AckBeforeSync             // agents acknowledge what is not yet durable
	ForgetCommit              // stores lose a commit now and then
	EarlyOutboxAck            // relays acknowledge outbox items before they are stored
	StreamsFirst              // relays send streams before state
	KeepStreams               // agents do not end the streams of a session that is over
	IgnoreWindows             // relays send more of a stream than the agent has announced
	LoseWindows               // what is given back of windows is lost now and then
	GiveTwice                 // relays give windows back twice
)

// Mutations returns all of them but Intact.
func Mutations() []Mutation {
	return []Mutation{IgnoreRevisions, IgnoreReferences, IgnoreFencing, BlindWrites, AckBeforeSync, ForgetCommit, EarlyOutboxAck, StreamsFirst, KeepStreams, IgnoreWindows, LoseWindows, GiveTwice}
}

// String names the mutation.
func (m Mutation) String() string {
	return [...]string{"intact", "relays ignore revisions", "relays ignore references", "sinks ignore fencing", "sinks ignore conflicts",
		"agents acknowledge before the sync", "stores forget commits", "relays acknowledge the outbox early", "relays send streams before state",
		"agents keep streams after their session", "relays ignore windows", "windows get lost", "windows are given back twice"}[m]
}

// kinds that the load refers to.
var referencedKinds = [...]wire.Kind{wire.KindConfigMap, wire.KindSecret, wire.KindDeviceModel,
	wire.KindPersistentVolumeClaim, wire.KindPersistentVolume, wire.KindService}
