package main

import (
	"context"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// load is what the agent and the process that plays its devices took over a stretch of time.
type load struct {
	seconds     float64
	agent, peer float64        // cores
	memory      process.Memory // the agent's, at the moment when its PSS was the greatest
}

// underLoad looks at the agent and at its peer for d, and returns the peer's counters before and after.
func underLoad[C any](ctx context.Context, s *stack.Stack, peer int, counters func(context.Context) (C, error), d time.Duration) (before, after C, l load, err error) {
	read := func() (c C, agent, other time.Duration, err error) {
		if c, err = counters(ctx); err != nil {
			return c, 0, 0, err
		}
		if agent, err = process.ReadCPU(s.Agent.PID()); err != nil {
			return c, 0, 0, err
		}
		other, err = process.ReadCPU(peer)
		return c, agent, other, err
	}
	before, a0, p0, err := read()
	if err != nil {
		return before, after, l, err
	}
	began := time.Now()
	for time.Since(began) < d {
		if err := sleep(ctx, time.Second); err != nil {
			return before, after, l, err
		}
		m, err := s.Agent.Memory()
		if err != nil {
			return before, after, l, err
		}
		if m.PSS > l.memory.PSS {
			l.memory = m
		}
	}
	after, a1, p1, err := read()
	l.seconds = time.Since(began).Seconds()
	l.agent, l.peer = (a1-a0).Seconds()/l.seconds, (p1-p0).Seconds()/l.seconds
	return before, after, l, err
}
