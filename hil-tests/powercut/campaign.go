package powercut

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Options of a campaign.
type Options struct {
	// Cuts is how many random cuts are made of the busy workload; default 1,000.
	Cuts int
	// Windows is how many seconds of 100 updates the busy workload lasts; default 60.
	Windows int
	// Hours is how long the scripted day is, each of whose operations is cut at; default 6, negative: none.
	Hours int
	// Seed makes a campaign another one.
	Seed uint64
	// Swallow leaves out syncs, to see whether that is noticed.
	Swallow func(path string, dir bool) bool
	// Program is what the children run: a program that calls Child first; default: this one. A mutant of the store shows whether it is noticed.
	Program string
	// Dir is where images are made: a folder in memory if there is one. Default: /dev/shm, or the system's folder for temporary files.
	Dir string
	// Progress is told now and then; nil: nobody is.
	Progress io.Writer
}

// Result is what a campaign found.
type Result struct {
	Cuts       int // of the busy workload
	DayCuts    int // of the day
	Operations int // that were recorded, both together
	Failures   []Failure
	Failed     int // all, also those that are not in Failures
	// MostLost is the largest number of values that one cut cost, which were in memory only or in a write that was cut. It is at most a window's.
	MostLost int
}

// Failure is a cut after which something that was promised was not there, or something was damaged.
type Failure struct {
	Workload  string
	Operation int
	Mode      string
	Wrong     []string
}

func (f Failure) String() string {
	return fmt.Sprintf("%s, cut after operation %d, kept of what was not synced: %s: %v", f.Workload, f.Operation, f.Mode, f.Wrong)
}

const maxFailures = 20

// Run records the workloads, cuts them, and looks at what is left. The error says that it could not be done, not that something was lost.
func Run(ctx context.Context, o Options) (res Result, err error) {
	if o.Cuts == 0 {
		o.Cuts = 1000
	}
	if o.Windows == 0 {
		o.Windows = 60
	}
	if o.Hours == 0 {
		o.Hours = 6
	}
	if o.Dir == "" {
		if _, err := os.Stat("/dev/shm"); err == nil {
			o.Dir = "/dev/shm"
		}
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	tmp, err := os.MkdirTemp(o.Dir, "skerry-powercut-")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(tmp)
	c := &campaign{Options: o, tmp: tmp, res: &res, rng: rand.New(rand.NewPCG(o.Seed, 5))} //nolint:gosec // to be repeatable
	defer func() {
		if c.child != nil {
			c.child.stop()
		}
	}()
	if err := c.busy(ctx); err != nil {
		return res, err
	}
	return res, c.day(ctx)
}

type campaign struct {
	Options
	tmp   string
	res   *Result
	rng   *rand.Rand
	child *process
}

// record has a child run a workload on a recorder.
func (c *campaign) record(ctx context.Context, name string, length int) (ops []op, l *ledger, err error) {
	backing, dir := filepath.Join(c.tmp, name+"-below"), filepath.Join(c.tmp, name)
	if err := errors.Join(os.Mkdir(backing, 0o700), os.Mkdir(dir, 0o700)); err != nil {
		return nil, nil, err
	}
	rec, unmount, err := mount(dir, backing, c.Swallow)
	if err != nil {
		return nil, nil, err
	}
	var w worked
	child, err := startChild(ctx, c.Program)
	if err == nil {
		if err = child.ask(fmt.Sprintf("%s %d %s", name, length, dir), &w); err == nil && w.Error != "" {
			err = errors.New(w.Error)
		}
		child.stop()
	}
	if err := errors.Join(err, unmount()); err != nil {
		return nil, nil, fmt.Errorf("the %s workload: %w", name, err)
	}
	c.res.Operations += len(rec.ops)
	return rec.ops, w.Ledger, os.RemoveAll(backing)
}

func (c *campaign) busy(ctx context.Context) error {
	ops, l, err := c.record(ctx, "busy", c.Windows)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Progress, "busy: %d operations recorded, %d cuts\n", len(ops), c.Cuts)
	for i := range c.Cuts {
		if err := c.try(ctx, "busy", ops, l, 1+c.rng.IntN(len(ops)), mode(i%int(modes))); err != nil { //nolint:gosec // small
			return err
		}
		c.res.Cuts++
		if (i+1)%200 == 0 {
			fmt.Fprintf(c.Progress, "busy: %d cuts, %d failed\n", i+1, c.res.Failed)
		}
	}
	return nil
}

func (c *campaign) day(ctx context.Context) error {
	if c.Hours < 0 {
		return nil
	}
	ops, l, err := c.record(ctx, "day", c.Hours)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Progress, "day: %d operations recorded, a cut at each\n", len(ops))
	for n := 1; n <= len(ops); n++ {
		if err := c.try(ctx, "day", ops, l, n, mode(n%int(modes))); err != nil { //nolint:gosec // small
			return err
		}
		c.res.DayCuts++
	}
	return nil
}

// try makes one cut and has a child look at it.
func (c *campaign) try(ctx context.Context, workload string, ops []op, l *ledger, n int, m mode) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := filepath.Join(c.tmp, "image")
	if err := cut(ops, n, m, c.rng).write(dir); err != nil {
		return err
	}
	if c.child == nil {
		child, err := startChild(ctx, c.Program)
		if err != nil {
			return err
		}
		c.child = child
	}
	var f found
	err := c.child.ask("look "+dir, &f)
	var wrong []string
	if err != nil {
		c.child = nil
		wrong = []string{err.Error()}
	} else {
		var loss int
		wrong, loss = l.check(n, f)
		if len(wrong) == 0 {
			c.res.MostLost = max(c.res.MostLost, loss)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	c.res.Failed++
	if len(c.res.Failures) < maxFailures {
		c.res.Failures = append(c.res.Failures, Failure{workload, n, m.String(), wrong})
	}
	return nil
}
