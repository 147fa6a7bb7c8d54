package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// supervisor runs the components and stops them in the reverse order of their
// start: the controllers while there is an API server to answer them, the API
// server while there is an etcd.
//
// It is used by one goroutine. wait must be called once; after it no component
// runs, unless one ignored its end for stopTimeout, which wait reports.
type supervisor struct {
	ctx    context.Context // ends when the user wants an end, or when a component has ended
	cancel context.CancelCauseFunc
	stages []stage
}

type stage struct {
	name   string
	cancel context.CancelFunc
	done   chan error
}

func newSupervisor(ctx context.Context) *supervisor {
	s := &supervisor{}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// add starts a component. Its context outlives the supervisor's own, because
// stopping is ordered. If run returns before it is told to, everything ends.
func (s *supervisor) add(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	st := stage{name, cancel, make(chan error, 1)}
	s.stages = append(s.stages, st)
	go func() {
		err := guard(ctx, run)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("ended by itself")
			}
			s.cancel(fmt.Errorf("%s: %w", name, err))
		}
		st.done <- err
	}()
}

// guard makes a panic of a component its error, so that the others stop in order.
func guard(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return run(ctx)
}

// wait blocks until the user or a component ends the run, or returns at once
// after startErr; then it stops what runs. The result is nil only if the user
// wanted the end and every component obeyed.
func (s *supervisor) wait(startErr error) error {
	if startErr == nil {
		<-s.ctx.Done()
	}
	err := context.Cause(s.ctx)
	if err == nil || errors.Is(err, context.Canceled) {
		err = startErr
		if s.ctx.Err() != nil {
			err = nil // the user lost patience during the start
		}
	}
	s.cancel(nil)
	for _, st := range slices.Backward(s.stages) {
		st.cancel()
		select {
		case <-st.done:
		case <-time.After(stopTimeout):
			err = errors.Join(err, fmt.Errorf("%s did not stop within %v", st.name, stopTimeout))
		}
	}
	return err
}
