package main

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

func memory(ctx context.Context, r *bench.Report, o options) (err error) {
	s, err := stack.Start(ctx, stack.Options{Bin: o.bin, Module: o.module, Say: o.say})
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, s) }()
	if err := s.StartRelay(ctx); err != nil {
		return err
	}
	o.say("leaving the relay alone for %v", o.settle)
	if err := sleep(ctx, o.settle); err != nil {
		return err
	}
	if err := addMemory(r, "relay_idle", s.Relay); err != nil {
		return err
	}
	if err := s.Join(ctx); err != nil {
		return err
	}
	if err := s.StartAgent(ctx); err != nil {
		return err
	}
	w, err := newWorkload(ctx, s, o)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.nodeReady(ctx); err != nil {
		return err
	}
	o.say("leaving the agent alone for %v: connected, no pods, no devices", o.settle)
	if err := sleep(ctx, o.settle); err != nil {
		return err
	}
	if err := addMemory(r, "skerryd_idle", s.Agent); err != nil {
		return err
	}
	if err := w.createPods(ctx, "memory", 1); err != nil {
		return err
	}
	if err := w.createDevice(ctx, "pump-1", 500*time.Millisecond, 1); err != nil {
		return err
	}
	o.say("leaving the agent alone for %v: one pod, one device", o.settle)
	if err := sleep(ctx, o.settle); err != nil {
		return err
	}
	return addMemory(r, "skerryd_demo", s.Agent)
}

func addMemory(r *bench.Report, name string, p *process.Process) error {
	m, err := p.Memory()
	if err != nil {
		return fmt.Errorf("memory of %s: %w", p.Name(), err)
	}
	r.Add(name+"_pss_mb", float64(m.PSS)/mb, "MB")
	r.Add(name+"_rss_mb", float64(m.RSS)/mb, "MB")
	return nil
}
