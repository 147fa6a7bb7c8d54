// Command skerry-bench measures what the project promises, on the real parts, and writes build/bench/NAME.json.
//
//	skerry-bench size                    binary sizes of build/linux-*
//	skerry-bench memory -bin DIR         memory of agent and relay on this machine
//	skerry-bench memory-arm -bin DIR -skerryd FILE   memory of the agent inside an ARMv7 machine
//	skerry-bench first-light -bin DIR    start, pod and device latencies, idle traffic
//	skerry-bench fleet -bin DIR -agents N   N simulated agents on one relay: memory, fan-out, storms, silence
//	skerry-bench pods -bin DIR           create → Running against the runtime's own time; the agent with 20 pods; an hour of churn (-short: 5 min)
//	skerry-bench modbus -bin DIR         RTU lines, a dead slave, 100,000 points a second over TCP in the real agent (about 5 min)
//	skerry-bench store                   bytes that a twin update costs the flash, with and without history; power cuts
//	skerry-bench devices -bin DIR        changes that devices tell of: how many the agent takes, and when they are visible in the API
//	skerry-bench opcua -bin DIR          100,000 monitored items at 1 s in the real agent, and the same polled (5 to 10 min)
//	skerry-bench attack -bin DIR         what somebody with one gateway's key does to the latency of others
//
// Figures are printed one a line as they are found. Machines are noisy: look at medians, and at the load that the JSON
// file records.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/powercut"
	"github.com/skerry/skerry/hil-tests/rig/modbusslave"
	"github.com/skerry/skerry/hil-tests/rig/opcualean"
)

// options are the flags that all benchmarks share.
type options struct {
	bin     string        // folder of the binaries for this machine
	module  string        // root of the checkout
	skerryd string        // the agent for ARMv7
	settle  time.Duration // how long a process is left alone before its memory is read
	idle    time.Duration // how long idle traffic is counted
	out     io.Writer     // progress
	fleet   fleetOptions
	attack  attackOptions
	pods    podOptions
	modbus  modbusOptions
	store   storeOptions
	opcua   opcuaOptions

	memoryARM struct{ only string }
}

func main() {
	powercut.Child() // of the store's benchmark
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "skerry-bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	benchmarks := map[string]func(context.Context, *bench.Report, options) error{
		"size": size, "memory": memory, "memory-arm": memoryARM, "first-light": firstLight, "fleet": fleetBench, "attack": attackBench, "pods": podBench,
		"modbus": modbusBench, "store": storeBench, "opcua": opcuaBench, "devices": deviceBench,
	}
	if len(args) > 0 && args[0] == "modbus-slave" { // a part of the modbus benchmark
		return modbusslave.Main(ctx, args[1:], os.Stderr)
	}
	if len(args) > 0 && args[0] == "opcua-server" { // a part of the opcua benchmark
		return opcualean.Main(ctx, args[1:], os.Stderr)
	}
	if len(args) == 0 || benchmarks[args[0]] == nil {
		return errors.New("usage: skerry-bench size|memory|memory-arm|first-light|fleet|attack|pods|modbus|store|devices|opcua [flags]")
	}
	name := args[0]
	fs := flag.NewFlagSet("skerry-bench "+name, flag.ContinueOnError)
	o := options{out: os.Stderr}
	fs.StringVar(&o.bin, "bin", "build/bin", "folder of the binaries for this machine")
	fs.StringVar(&o.module, "module", ".", "root of the checkout")
	fs.StringVar(&o.skerryd, "skerryd", "build/linux-armv7/skerryd", "the agent for ARMv7")
	fs.DurationVar(&o.settle, "settle", 30*time.Second, "how long a process is left alone before its memory is read")
	fs.DurationVar(&o.idle, "idle", 10*time.Minute, "how long idle traffic is counted")
	switch name {
	case "memory-arm":
		fs.StringVar(&o.memoryARM.only, "only", "", "`part` to run: 128, 256, shed; all if empty")
	case "fleet":
		o.fleet.register(fs)
	case "attack":
		o.attack.register(fs)
	case "pods":
		o.pods.register(fs)
	case "modbus":
		o.modbus.register(fs)
	case "store":
		o.store.register(fs)
	case "opcua":
		o.opcua.register(fs)
	}
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	for _, p := range []*string{&o.bin, &o.module, &o.skerryd} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	report := bench.New(name, os.Stdout)
	if err := benchmarks[name](ctx, report, o); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return report.Write(filepath.Join(o.module, "build", "bench"))
}

func (o options) say(format string, args ...any) {
	fmt.Fprintf(o.out, "# "+format+"\n", args...)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

const mb = 1e6
