//go:build hil

package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/target"
	"github.com/skerry/skerry/hil-tests/simulator"
)

// How long things may take on an emulated gateway while others use this computer, too.
const (
	bootPatience  = 5 * time.Minute
	patience      = 3 * time.Minute
	execPatience  = time.Minute
	flashPatience = 5 * time.Minute
)

// firstAddress is the address of the first service that QEMU's machines are told of: the relay. Its certificate has to name it before it starts.
const firstAddress = "10.0.2.100"

// world is a gateway with everything around it.
type world struct {
	*stack.Stack
	cluster *stack.Cluster
	target  target.Target
	plant   *simulator.Simulator
	dir     string // of this run: target's files, and what is kept of failures
	relay   string // host:port as the gateway finds it
	press   string // URL of the OPC UA server as the gateway finds it
	port    string // of the Modbus line on the gateway
	times   map[string]time.Duration
	on      time.Time // when the power came on first
}

// newWorld starts everything but the gateway.
func newWorld(t *testing.T, rig *target.Rig) *world {
	t.Helper()
	module, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{times: map[string]time.Duration{}, dir: filepath.Join(module, "build", "hil", rig.Name)}
	if err := errors.Join(os.RemoveAll(w.dir), os.MkdirAll(w.dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	advertise := rig.Network.Here
	if rig.Adapter == target.AdapterQEMU {
		advertise = firstAddress
	}
	bin := os.Getenv("SKERRY_BIN")
	if bin == "" {
		bin = filepath.Join(module, "build", "bin")
	}
	w.Stack, err = stack.Start(t.Context(), stack.Options{Bin: bin, Module: module, Node: rig.Name, NoPods: true, Advertise: []string{advertise}, Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := w.StartRelay(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.cluster, err = w.Cluster(); err != nil {
		t.Fatal(err)
	}
	if w.target, err = target.Open(t.Context(), rig, target.Options{Dir: w.dir, Say: t.Logf}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.target.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.relay, err = w.target.Reach(t.Context(), w.RelayAt); err != nil {
		t.Fatal(err)
	}
	w.startPlant(t)
	return w
}

// startPlant starts the simulators that the rig has, with one Modbus unit and one OPC UA server.
func (w *world) startPlant(t *testing.T) {
	t.Helper()
	cfg := plant
	for _, s := range w.target.Rig().Simulators {
		switch s.Kind {
		case target.KindRTU:
			path, port, err := w.target.Line(s.Name)
			if err != nil {
				t.Fatal(err)
			}
			w.port, cfg = port, cfg+fmt.Sprintf(plantLine, path)
		case target.KindOPCUA:
			cfg += plantPress
		}
	}
	if cfg == plant {
		return
	}
	parsed, err := simulator.Parse([]byte(strings.TrimPrefix(cfg, plant)))
	if err != nil {
		t.Fatal(err)
	}
	if w.plant, err = simulator.Start(t.Context(), parsed, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.plant.Close() }) // the line's other end is gone
	for _, at := range w.plant.Addrs() {
		if !strings.HasPrefix(at, "/") {
			at, err := w.target.Reach(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			w.press = "opc.tcp://" + at
		}
	}
}

// The plant, in the form of docs/simulators.md.
const (
	plant     = "# plant\n"
	plantLine = `modbus:
  - line: %s
    units:
      - id: 7
        name: fan
        points:
          - {name: rpm, table: input, address: 0, type: uint16, signal: random, value: 900, low: 800, high: 1000, step: 50}
          - {name: target, table: holding, address: 0, type: uint16, value: 850}
`
	plantPress = `opcua:
  - name: press
    listen: 127.0.0.1:0
    namespace: urn:example:press
    points:
      - {name: pressure, type: float64, signal: sine, low: 80, high: 120, period: 5s}
      - {name: target, type: float64, writable: true, value: 100}
`
)

// exec runs shell text on the gateway.
func (w *world) exec(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, execPatience)
	defer cancel()
	return target.Run(ctx, w.target, command)
}

// run is exec that must not fail.
func (w *world) run(t *testing.T, command string) string {
	t.Helper()
	out, err := w.exec(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// eventually waits until check holds.
func eventually(t *testing.T, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := process.Poll(ctx, what, nil, check); err != nil {
		t.Fatal(err)
	}
}

// node returns the gateway's node.
func (w *world) node(ctx context.Context) (*corev1.Node, error) {
	return w.cluster.Core.CoreV1().Nodes().Get(ctx, w.Node, metav1.GetOptions{})
}

// ready is nil while the node is Ready.
func (w *world) ready(ctx context.Context) error {
	status, message, err := w.cluster.NodeReady(ctx, w.Node)
	if err == nil && status != corev1.ConditionTrue {
		err = fmt.Errorf("Ready is %s: %s", status, message) //nolint:staticcheck // the condition's name
	}
	return err
}

// bootID is what the kernel has chosen at this boot.
func (w *world) bootID(ctx context.Context) (string, error) {
	out, err := w.exec(ctx, "cat /proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(out), err
}

// rebooted waits until another boot than before has come so far that commands run.
func (w *world) rebooted(t *testing.T, before string) {
	t.Helper()
	eventually(t, bootPatience, "the gateway has booted again", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		now, err := w.bootID(ctx)
		if err == nil && now == before {
			err = errors.New("it has not gone down yet")
		}
		return err
	})
}

// keep copies everything into one folder after a scenario has failed.
func (w *world) keep(t *testing.T, scenario string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir := filepath.Join(filepath.Dir(w.dir), "failed", w.target.Rig().Name+"-"+scenario+"-"+time.Now().UTC().Format("150405"))
	err := w.target.Keep(ctx, dir)
	if _, logErr := process.Output(ctx, process.Spec{Path: "cp", Args: []string{"-r", w.Logs(), filepath.Join(dir, "logs")}}); logErr != nil {
		err = errors.Join(err, logErr)
	}
	if state, execErr := w.exec(ctx, "skerryd status; systemctl --no-pager list-units --failed; journalctl -b --no-pager -n 200; df -h; free"); execErr == nil {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "gateway.txt"), []byte(state), 0o644))
	}
	t.Logf("everything is kept in %s (%v); the last lines of the console:\n%s", dir, err, w.target.Console().Tail(50))
}
