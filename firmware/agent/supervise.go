package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// task is one part of the agent that runs for as long as the agent does. run is called anew after each failure, so it
// builds whatever state it needs.
type task struct {
	name string
	run  func(ctx context.Context) error
}

const (
	restartFirst = time.Second
	restartMax   = time.Minute
	restartReset = 10 * time.Minute // a task that ran this long has earned a fresh back-off
)

// supervise runs every task until ctx ends, restarting those that return or panic, and returns when all have ended: one
// feature's bug shall not take the gateway's other features with it.
func supervise(ctx context.Context, log *slog.Logger, restarted func(name string, err error), tasks ...task) {
	var wg sync.WaitGroup
	for _, t := range tasks {
		wg.Go(func() { keepRunning(ctx, log.With("part", t.name), restarted, t) })
	}
	wg.Wait()
}

func keepRunning(ctx context.Context, log *slog.Logger, restarted func(name string, err error), t task) {
	wait := restartFirst
	for {
		began := time.Now()
		err := guarded(ctx, t.run)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= restartReset {
			wait = restartFirst
		}
		pause := wait/2 + rand.N(wait)
		log.Error("a part of the agent stopped and will be started again; the others go on", "error", err, "in", pause.Round(time.Millisecond))
		if restarted != nil {
			restarted(t.name, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		wait = min(2*wait, restartMax)
	}
}

// guarded turns a panic into the task's error, and a return without one too: tasks have no reason to end by themselves.
func guarded(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if err := run(ctx); err != nil {
		return err
	}
	return fmt.Errorf("ended although nobody asked it to")
}
