package sim

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// play runs one seed in a bubble of its own.
func play(t *testing.T, o Options) *Result {
	t.Helper()
	var res *Result
	synctest.Test(t, func(*testing.T) { res = Run(o) })
	return res
}

func world(t *testing.T, name string) World {
	t.Helper()
	i := slices.IndexFunc(Worlds(), func(w World) bool { return w.Name == name })
	if i < 0 {
		var names []string
		for _, w := range Worlds() {
			names = append(names, w.Name)
		}
		t.Fatalf("there is no world %q; the worlds are %q", name, names)
	}
	return Worlds()[i]
}

// TestSeed plays one seed of one world with its whole trace: make sim WORLD=… SEED=….
func TestSeed(t *testing.T) {
	name, seed := os.Getenv("SIM_WORLD"), os.Getenv("SIM_SEED")
	if seed == "" {
		name, seed = "calm", "1"
	}
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		t.Fatalf("SEED=%s: %v", seed, err)
	}
	o := Options{World: world(t, name), Seed: n}
	if os.Getenv("SIM_SEED") != "" {
		o.Trace = os.Stdout
	}
	if res := play(t, o); len(res.Violations) > 0 {
		t.Fatal(res)
	}
}

// row sums up the seeds of one world.
type row struct {
	world  string
	seeds  int
	events uint64
	time   time.Duration
	failed []*Result
	counts Counts
}

func (r *row) add(res *Result) {
	r.seeds++
	r.events += res.Events
	r.time += res.Simulated
	c := &r.counts
	c.Sessions += res.Counts.Sessions
	c.Commits += res.Counts.Commits
	c.Upward += res.Counts.Upward
	c.AgentCrashes += res.Counts.AgentCrashes
	c.RelayCrashes += res.Counts.RelayCrashes
	c.Settled += res.Counts.Settled
	if len(res.Violations) > 0 {
		r.failed = append(r.failed, res)
	}
}

// TestSeeds plays a few seeds of every world, or SIM_SEEDS in all, spread evenly over the worlds: make sim SEEDS=….
func TestSeeds(t *testing.T) {
	worlds := Worlds()
	if name := os.Getenv("SIM_WORLD"); name != "" {
		worlds = []World{world(t, name)}
	}
	seeds, long := 10, false
	if n, err := strconv.Atoi(os.Getenv("SIM_SEEDS")); err == nil {
		seeds, long = (n+len(worlds)-1)/len(worlds), true
	}
	rows := make([]row, len(worlds))
	var mu sync.Mutex
	t.Run("worlds", func(t *testing.T) {
		for i, w := range worlds {
			rows[i].world = w.Name
			t.Run(w.Name, func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(seeds) {
					res := play(t, Options{World: w, Seed: seed})
					mu.Lock()
					rows[i].add(res)
					mu.Unlock()
					if len(res.Violations) > 0 && !long {
						t.Fatal(res)
					}
					if long && ((seed+1)%50 == 0 || seed+1 == uint64(seeds)) {
						fmt.Printf("%-14s %d of %d seeds, %d violated\n", w.Name, seed+1, seeds, len(rows[i].failed))
					}
				}
			})
		}
	})
	if long {
		table(rows)
	}
	for i := range rows {
		if r := &rows[i]; len(r.failed) > 0 {
			t.Errorf("%d of %d seeds of world %q violated a promise; the first:\n%v", len(r.failed), r.seeds, r.world, r.failed[0])
		}
		if r := &rows[i]; r.counts.Commits == 0 || r.counts.Upward == 0 || r.counts.Settled == 0 {
			t.Errorf("world %q: nothing happened: %+v", r.world, r.counts)
		}
	}
}

func table(rows []row) {
	const format = "%-14s %7v %12v %14v %9v %9v %9v %8v %8v %9v\n"
	fmt.Printf("\n"+format, "world", "seeds", "events", "simulated", "sessions", "commits", "reports", "crashes", "settled", "violated")
	sum := row{world: "all"}
	for i := range rows {
		r := &rows[i]
		fmt.Printf(format, r.world, r.seeds, r.events, days(r.time), r.counts.Sessions, r.counts.Commits, r.counts.Upward,
			r.counts.AgentCrashes+r.counts.RelayCrashes, r.counts.Settled, len(r.failed))
		sum.seeds += r.seeds
		sum.events += r.events
		sum.time += r.time
		sum.counts.Sessions += r.counts.Sessions
		sum.counts.Commits += r.counts.Commits
		sum.counts.Upward += r.counts.Upward
		sum.counts.AgentCrashes += r.counts.AgentCrashes
		sum.counts.RelayCrashes += r.counts.RelayCrashes
		sum.counts.Settled += r.counts.Settled
		sum.failed = append(sum.failed, r.failed...)
	}
	fmt.Printf(format, sum.world, sum.seeds, sum.events, days(sum.time), sum.counts.Sessions, sum.counts.Commits, sum.counts.Upward,
		sum.counts.AgentCrashes+sum.counts.RelayCrashes, sum.counts.Settled, len(sum.failed))
	for _, res := range sum.failed {
		fmt.Printf("violated: world %q seed %d: %v\n", res.World, res.Seed, res.Violations[0])
	}
}

func days(d time.Duration) string { return fmt.Sprintf("%.1f days", d.Hours()/24) }

// TestReplay: a seed gives the same trace each time, to the byte; another seed gives another one.
func TestReplay(t *testing.T) {
	for _, w := range Worlds() {
		first := play(t, Options{World: w, Seed: 7})
		again := play(t, Options{World: w, Seed: 7})
		other := play(t, Options{World: w, Seed: 8})
		if first.Hash != again.Hash || first.Events != again.Events || first.Simulated != again.Simulated {
			t.Errorf("world %q: two runs of one seed have the hashes %x and %x after %d and %d events", w.Name, first.Hash, again.Hash, first.Events, again.Events)
		}
		if first.Hash == other.Hash {
			t.Errorf("world %q: two seeds have the same trace", w.Name)
		}
	}
}

// TestMutations breaks one thing at a time on purpose: the checks must find each of them.
func TestMutations(t *testing.T) {
	cases := map[Mutation]struct {
		world string
		rules []string // any of which may find it
	}{
		IgnoreRevisions:  {"watches lag", []string{"live pod", "overtaken", "not held"}},
		IgnoreReferences: {"calm", []string{"reference", "absent"}},
		IgnoreFencing:    {"split brain", []string{"older report"}},
		BlindWrites:      {"late requests", []string{"older report"}},
		AckBeforeSync:    {"agents crash", []string{"durable", "store"}},
		ForgetCommit:     {"bad disks", []string{"store", "not in sync"}},
		EarlyOutboxAck:   {"API trouble", []string{"outbox lost", "protocol"}},
		StreamsFirst:     {"streams", []string{"state delayed"}},
		KeepStreams:      {"streams", []string{"outlives"}},
		IgnoreWindows:    {"streams", []string{"credit", "stream protocol"}},
		LoseWindows:      {"streams", []string{"not in sync"}},
		GiveTwice:        {"streams", []string{"credit", "stream protocol"}},
	}
	const within = 10
	for _, m := range Mutations() {
		t.Run(m.String(), func(t *testing.T) {
			c, ok := cases[m]
			if !ok {
				t.Fatal("no world is named in which it must be found")
			}
			for seed := range uint64(within) {
				res := play(t, Options{World: world(t, c.world), Seed: seed, Mutation: m})
				if len(res.Violations) == 0 {
					continue
				}
				if v := res.Violations[0]; !slices.Contains(c.rules, v.Rule) {
					t.Fatalf("seed %d found something else: %v", seed, v)
				}
				t.Logf("found by seed %d: %v", seed, res.Violations[0])
				return
			}
			t.Errorf("no seed of %d in world %q found it", within, c.world)
		})
	}
}
