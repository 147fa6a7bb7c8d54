// Package devicehost runs the agent's device host (firmware/devices) with everything around it in memory: the relay's objects, its
// reports, the store's twins. It is for tests and benchmarks of drivers that want the real host and no agent.
//
// # Usage
//
//	g, err := devicehost.Start(devicehost.Options{Drivers: drivers})
//	defer g.Stop()
//	err = g.Apply(devicehost.Model(…), devicehost.Device(…))
//	state, ok := g.State("pump-1")
//
// # Concurrency
//
// All methods may be called concurrently, but for Stop.
//
// # Testing
//
// It is exercised by the suites that use it.
package devicehost

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"

	"github.com/tinylib/msgp/msgp"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// Namespace is where all devices are.
const Namespace = "default"

// Options configure Start.
type Options struct {
	Drivers []device.Driver
	Twins   devices.TwinStore // nil: in memory
	History devices.History   // nil: none
	Log     *slog.Logger      // nil: nothing is logged
}

// Gateway is a running device host.
type Gateway struct {
	host    *devices.Host
	changed chan struct{}
	cancel  context.CancelFunc
	done    chan error

	mu         sync.Mutex
	objects    map[wire.Key]wire.Object
	fresh      map[wire.Key]bool
	generation int64
	reports    map[wire.Key]int
	records    int
}

// Start runs a host without devices.
func Start(o Options) (*Gateway, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		changed: make(chan struct{}, 1), done: make(chan error, 1),
		objects: map[wire.Key]wire.Object{}, fresh: map[wire.Key]bool{}, reports: map[wire.Key]int{},
	}
	if o.Twins == nil {
		o.Twins = twins{g}
	}
	var err error
	if g.host, err = devices.New(devices.Options{
		Drivers: o.Drivers, Desired: desired{g}, Watch: watch{g}, Reports: reports{g}, Events: events{}, Twins: o.Twins, History: o.History, Log: o.Log,
	}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	go func() { g.done <- g.host.Run(ctx) }()
	return g, nil
}

// Stop ends the host and waits for it.
func (g *Gateway) Stop() error {
	g.cancel()
	return <-g.done
}

// Host is the host itself.
func (g *Gateway) Host() *devices.Host { return g.host }

// Object is a Device or DeviceModel as the relay would send it.
type Object struct {
	Kind wire.Kind
	Name string
	Spec map[string]any
}

// Apply takes objects over, as one commit of the relay.
func (g *Gateway) Apply(objects ...Object) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range objects {
		g.generation++
		body, err := msgp.AppendIntf(nil, map[string]any{
			"metadata": map[string]any{"name": o.Name, "namespace": Namespace, "uid": uid(o.Name), "generation": g.generation}, "spec": o.Spec,
		})
		if err != nil {
			return fmt.Errorf("encode %s: %w", o.Name, err)
		}
		sum := sha256.Sum256(body)
		key := wire.NewKey(o.Kind, Namespace, o.Name, "")
		g.objects[key] = wire.Object{Key: key, Version: wire.Version{UID: uid(o.Name), Hash: [16]byte(sum[:16])}, Body: body}
		g.fresh[key] = true
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
	return nil
}

// State returns what the host says of a device.
func (g *Gateway) State(name string) (devices.DeviceState, bool) {
	for _, d := range g.host.Status() {
		if d.Name == name {
			return d, true
		}
	}
	return devices.DeviceState{}, false
}

// Reports returns how many reports of a device went to the relay.
func (g *Gateway) Reports(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reports[wire.NewKey(wire.KindDevice, Namespace, name, "")]
}

// Records returns how many twin records were stored.
func (g *Gateway) Records() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.records
}

type (
	desired struct{ g *Gateway }
	watch   struct{ g *Gateway }
	reports struct{ g *Gateway }
	twins   struct{ g *Gateway }
	events  struct{}
)

func (d desired) Get(k wire.Key) (wire.Object, bool) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	o, ok := d.g.objects[k]
	return o, ok
}

func (d desired) List(kind wire.Kind) (out []wire.Object) {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	for k, o := range d.g.objects {
		if k.Kind() == kind {
			out = append(out, o)
		}
	}
	return out
}

func (w watch) C() <-chan struct{} { return w.g.changed }

func (w watch) Take() (keys []wire.Key) {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	for k := range w.g.fresh {
		keys = append(keys, k)
	}
	clear(w.g.fresh)
	return keys
}

func (r reports) Report(k wire.Key, _ []byte) {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	r.g.reports[k]++
}

func (r reports) Withdraw(wire.Key) {}

func (events) Event(wire.ObjectRef, string, string, string) {}

func (t twins) Scan(string, func(string, []byte) error) error { return nil }

func (t twins) Commit(_ context.Context, records []devices.TwinRecord) error {
	return t.CommitLazy(records)
}

func (t twins) CommitLazy(records []devices.TwinRecord) error {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	t.g.records += len(records)
	return nil
}

// uid is as long as Kubernetes' own: it is in each record that reaches the flash.
func uid(name string) string {
	b := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
