package updates

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/hil-tests/cutlog"
)

// Campaign cuts the power while a recorded gateway updates itself.
type Campaign struct {
	Before  io.ReaderAt // the disk when the recording began
	Size    int64
	Log     *cutlog.Log
	Systems []System
	Seed    uint64
	// Each is told of each cut, if it is not nil; its error ends the campaign.
	Each func(Cut, *cutlog.State) error
}

// Cut is one power cut.
type Cut struct {
	N       int // counts them
	Entry   int // of the log: the last one that the disk was told of
	Mode    cutlog.Mode
	Verdict Verdict
}

func (c Cut) String() string {
	return fmt.Sprintf("cut %d, behind entry %d, of what was not flushed: %s", c.N, c.Entry, c.Mode)
}

// Result counts what a campaign found.
type Result struct {
	Cuts, Bricks int
	// TornTried counts cuts after which the script tried a slot with a damaged root, which dm-verity refused, and another one booted.
	TornTried int
	TornIdle  int // a slot was damaged that the script did not try
	OneCopy   int // one copy of the boot environment was damaged
	NoCopy    int // both were: the defaults counted
	EnvLost   int // … although there was a whole one before
	Boots     map[string]int
	Failures  []string // bricks, the first ones
}

const maxFailures = 20

// Run makes n cuts: a third of them around writes to the boot environment and the partition table, a third around those to the slots, a third anywhere. The same seed
// makes the same ones.
func (c Campaign) Run(n int) (Result, error) {
	parts, err := Layout(c.Before)
	if err != nil {
		return Result{}, err
	}
	rng := rand.New(rand.NewPCG(c.Seed, 1)) //nolint:gosec // to be repeatable
	entries, slots := around(c.Log, append(parts.Env[:], parts.Table, parts.Firmware)...), around(c.Log, slotAreas(parts)...)
	var cuts []Cut
	for i := range n {
		entry := rng.IntN(len(c.Log.Entries) + 1)
		if list := [][]int{entries, slots, nil}[i%3]; len(list) > 0 {
			entry = list[rng.IntN(len(list))]
		}
		cuts = append(cuts, Cut{Entry: entry, Mode: cutlog.Mode(i / 3 % int(cutlog.Modes))}) //nolint:gosec // small
	}
	return c.run(cuts)
}

// All makes every cut there is: at each entry in each mode, rounds times where chance has a say.
func (c Campaign) All(rounds int) (Result, error) {
	var cuts []Cut
	for entry := range len(c.Log.Entries) + 1 {
		for mode := range cutlog.Modes {
			for i := range rounds {
				if i == 0 || mode >= cutlog.Some {
					cuts = append(cuts, Cut{Entry: entry, Mode: mode})
				}
			}
		}
	}
	return c.run(cuts)
}

func slotAreas(p Partitions) (out []Area) {
	for _, s := range []bootenv.Slot{bootenv.A, bootenv.B} {
		out = append(out, p.Boot[s], p.Root[s])
	}
	return out
}

// around lists the entries behind which a cut is a cut of a write to one of the areas: at the write and at each one after it, up to the next flush.
func around(log *cutlog.Log, areas ...Area) (out []int) {
	open := false
	for i, e := range log.Entries {
		if e.Flags&cutlog.Flush != 0 {
			open = false
		}
		if e.Writes() && slices.ContainsFunc(areas, func(a Area) bool { return a.Touches(e.Start*cutlog.SectorSize, e.Count*cutlog.SectorSize) }) {
			open = true
		}
		if open {
			out = append(out, i+1)
		}
	}
	return out
}

func (c Campaign) run(cuts []Cut) (Result, error) {
	slices.SortStableFunc(cuts, func(a, b Cut) int { return a.Entry - b.Entry })
	res := Result{Boots: map[string]int{}}
	judge, err := NewJudge(c.Before, c.Size, c.Systems)
	if err != nil {
		return res, err
	}
	disk, err := cutlog.NewDisk(c.Before, c.Size, c.Log)
	if err != nil {
		return res, err
	}
	had := false // a whole copy of the boot environment, for certain
	for i, cut := range cuts {
		cut.N = i + 1
		if !had {
			_, cond := judge.environment(disk.Cut(cut.Entry, cutlog.None, nil))
			had = !cond.Lost()
		}
		s := disk.Cut(cut.Entry, cut.Mode, rand.New(rand.NewPCG(c.Seed, uint64(cut.N)))) //nolint:gosec // to be repeatable
		if cut.Verdict, err = judge.Look(s); err != nil {
			return res, fmt.Errorf("%v: %w", cut, err)
		}
		cut.Verdict.EnvLost = cut.Verdict.NoCopy && had
		res.add(cut)
		if c.Each != nil {
			if err := c.Each(cut, s); err != nil {
				return res, fmt.Errorf("%v: %w", cut, err)
			}
		}
	}
	return res, nil
}

func (r *Result) add(c Cut) {
	v := c.Verdict
	count := func(n *int, is bool) {
		if is {
			*n++
		}
	}
	r.Cuts++
	count(&r.Bricks, v.Brick != "")
	count(&r.TornTried, v.Brick == "" && len(v.Refused) > 0)
	count(&r.TornIdle, v.Brick == "" && len(v.Refused) == 0 && len(v.Torn) > 0)
	count(&r.OneCopy, v.OneCopy)
	count(&r.NoCopy, v.NoCopy)
	count(&r.EnvLost, v.EnvLost)
	if v.Brick == "" {
		r.Boots[v.Version]++
	} else if len(r.Failures) < maxFailures {
		r.Failures = append(r.Failures, fmt.Sprintf("%v: %s", c, v.Brick))
	}
}
