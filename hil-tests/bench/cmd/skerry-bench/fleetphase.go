package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/process"
)

// phaseRecord is what one phase took, for the table and the JSON document.
type phaseRecord struct {
	Name           string             `json:"name"`
	Seconds        float64            `json:"seconds"`
	Failed         string             `json:"failed,omitempty"`
	NotRun         string             `json:"notRun,omitempty"`
	LoadBefore     string             `json:"loadBefore,omitempty"`
	LoadAfter      string             `json:"loadAfter,omitempty"`
	CPU            *cpuSplit          `json:"cpuSeconds,omitempty"`
	RelayRequests  map[string]float64 `json:"relayRequests,omitempty"`
	ServerRequests map[string]float64 `json:"apiServerRequests,omitempty"`
	ObjectsSent    map[string]int64   `json:"objectsSent,omitempty"` // to agents, by kind
	NodesLost      int                `json:"nodesLost,omitempty"`   // times that a Node stopped being Ready
}

// cpuSplit says who used the processors, in seconds.
type cpuSplit struct {
	Simulator    float64 `json:"simulator"`
	Relays       float64 `json:"relays"`
	ControlPlane float64 `json:"controlPlane"`
	Others       float64 `json:"others"` // everything else on the machine
}

func (c cpuSplit) sub(o cpuSplit) cpuSplit {
	return cpuSplit{c.Simulator - o.Simulator, c.Relays - o.Relays, c.ControlPlane - o.ControlPlane, c.Others - o.Others}
}

func usage(who int) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// cpu reads who has used how much since they started. Relays that have ended count by what their parent was told of them.
func (r *fleetRun) cpu() (c cpuSplit) {
	c.Simulator = usage(syscall.RUSAGE_SELF)
	c.Relays = usage(syscall.RUSAGE_CHILDREN)
	for _, relay := range r.relays {
		if d, err := process.ReadCPU(relay.PID()); err == nil && relay.PID() != 0 {
			c.Relays += d.Seconds()
		}
	}
	if r.stack != nil && r.stack.Kube != nil {
		if d, err := process.ReadCPU(r.stack.Kube.Process().PID()); err == nil {
			c.ControlPlane = d.Seconds()
		}
	}
	if d, err := process.MachineCPU(); err == nil {
		c.Others = d.Seconds() - c.Simulator - c.Relays - c.ControlPlane
	}
	return c
}

// counts is the state of everything that counts upwards.
type counts struct {
	relay  map[int]fleet.Counters // by process
	server fleet.Counters
	puts   map[string]int64
	lost   int
}

func (r *fleetRun) count(ctx context.Context) (c counts) {
	c.relay, c.puts = map[int]fleet.Counters{}, map[string]int64{}
	for _, relay := range r.relays {
		if relay.PID() == 0 {
			continue
		}
		if n, err := relay.Counters(ctx); err == nil {
			c.relay[relay.PID()] = n
		}
	}
	if r.cluster != nil {
		c.server, _ = r.cluster.ServerCounters(ctx) //nolint:errcheck // a phase may have ended because the API server is away
	}
	if r.fleet != nil {
		byKind, tainted := r.fleet.Puts()
		for k, n := range byKind {
			c.puts[string(k)] = n
		}
		c.puts["nodes with a taint"] = tainted
	}
	if r.nodes != nil {
		c.lost, _ = r.nodes.Lost()
	}
	return c
}

func named(list []fleet.Requests) map[string]float64 {
	out := map[string]float64{}
	for _, q := range list {
		out[q.Verb+" "+q.Resource] = q.Count
	}
	return out
}

// difference fills rec with what was counted between before and now.
func (rec *phaseRecord) difference(before, now counts) {
	requests := fleet.Counters{}
	for pid, c := range now.relay {
		for k, v := range c.Sub(before.relay[pid]) {
			requests[k] += v
		}
	}
	rec.RelayRequests = named(requests.RelayRequests())
	if before.server != nil && now.server != nil {
		rec.ServerRequests = named(now.server.Sub(before.server).ServerRequests())
	}
	rec.ObjectsSent = map[string]int64{}
	for k, n := range now.puts {
		if n -= before.puts[k]; n > 0 {
			rec.ObjectsSent[k] = n
		}
	}
	rec.NodesLost = now.lost - before.lost
}

// phase runs one phase within its limit, records what it took, and writes the figures so far.
func (r *fleetRun) phase(ctx context.Context, p phase) error {
	rec := &phaseRecord{Name: p.name, LoadBefore: bench.Load()}
	r.phases = append(r.phases, rec)
	r.say("%s", p.name)
	before, cpu, began := r.count(ctx), r.cpu(), time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, p.limit, fmt.Errorf("not done within %v", p.limit))
	err := p.run(limited)
	if err != nil && limited.Err() != nil {
		err = fmt.Errorf("%w (%w)", err, context.Cause(limited))
	}
	cancel()
	rec.Seconds, rec.LoadAfter = time.Since(began).Seconds(), bench.Load()
	used := r.cpu().sub(cpu)
	rec.CPU = &used
	rec.difference(before, r.count(ctx))
	if err != nil {
		rec.Failed = err.Error()
		r.say("%s FAILED after %.1f s: %v", p.name, rec.Seconds, err)
		if log := r.relayLog(); log != "" {
			r.say("the relays' logs end with:\n%s", log)
		}
	} else {
		r.say("%s: done after %.1f s", p.name, rec.Seconds)
	}
	return errors.Join(err, r.save())
}

// save writes everything known so far to build/bench/fleet.json: a run that is stopped leaves its figures.
func (r *fleetRun) save() error {
	r.report.Attach("phases", r.phases)
	r.report.Attach("missing", append([]string{}, r.report.Missing(required()...)...))
	r.report.Attach("notes", r.notes)
	return r.report.Write(r.outDir())
}

// recover brings the fleet back to where the next phase can begin, after one that failed.
func (r *fleetRun) recover(ctx context.Context) error {
	if r.relay == nil || r.fleet == nil {
		return errors.New("nothing runs that could go on")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	r.say("getting over it")
	for _, a := range r.fleet.Agents() {
		a.Network(fleet.Normal)
	}
	for _, relay := range r.relays {
		if relay.PID() != 0 {
			_ = relay.Signal(syscall.SIGCONT)
		}
	}
	if r.relay.PID() == 0 {
		if _, err := r.relay.Start(ctx); err != nil {
			return err
		}
	}
	r.fleet.Start()
	return r.fleet.Wait(ctx, "in sync again", fleet.InSync, r.progress)
}

// relayLog returns the ends of the relays' logs.
func (r *fleetRun) relayLog() string {
	var out []string
	for _, relay := range r.relays {
		if text := relay.Log(10); text != "" {
			out = append(out, relay.Name()+":", text)
		}
	}
	return strings.Join(out, "\n")
}

// describeMachine notes what the figures stand on.
func (r *fleetRun) describeMachine() {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err == nil {
		r.note("machine: %.1f GiB of memory, load at the start %s", float64(info.Totalram)*float64(info.Unit)/(1<<30), bench.Load())
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, line := range strings.Split(string(b), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				r.note("processor:%s", value)
				break
			}
		}
	}
}
