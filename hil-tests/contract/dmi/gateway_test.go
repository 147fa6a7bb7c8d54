package dmi_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/skerry/skerry/firmware/devices"
	firmware "github.com/skerry/skerry/firmware/dmi"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
	mapper "github.com/skerry/skerry/mappers/dmi"
)

// cluster is what the gateway should run, as the agent's store has it.
type cluster struct {
	mu      sync.Mutex
	objects map[wire.Key]wire.Object
	watches []*watch
}

type watch struct {
	c    chan struct{}
	mu   sync.Mutex
	keys map[wire.Key]bool
}

func (w *watch) C() <-chan struct{} { return w.c }

func (w *watch) Take() []wire.Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := make([]wire.Key, 0, len(w.keys))
	for k := range w.keys {
		keys = append(keys, k)
	}
	w.keys = nil
	return keys
}

func (c *cluster) watch() *watch {
	w := &watch{c: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watches = append(c.watches, w)
	return w
}

func (c *cluster) Get(key wire.Key) (wire.Object, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.objects[key]
	return o, ok
}

func (c *cluster) List(kind wire.Kind) (out []wire.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, o := range c.objects {
		if k.Kind() == kind {
			out = append(out, o)
		}
	}
	return out
}

// put changes an object; nil removes it.
func (c *cluster) put(t *testing.T, kind wire.Kind, name string, object map[string]any) {
	t.Helper()
	key := wire.NewKey(kind, "default", name, "")
	c.mu.Lock()
	defer c.mu.Unlock()
	if object == nil {
		delete(c.objects, key)
	} else {
		body, err := msgp.AppendIntf(nil, object)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		c.objects[key] = wire.Object{Key: key, Version: wire.Version{UID: "u-" + name, Hash: [16]byte(sum[:16])}, Body: body}
	}
	for _, w := range c.watches {
		w.mu.Lock()
		if w.keys == nil {
			w.keys = map[wire.Key]bool{}
		}
		w.keys[key] = true
		w.mu.Unlock()
		select {
		case w.c <- struct{}{}:
		default:
		}
	}
}

type object = map[string]any

func (c *cluster) model(t *testing.T, name string, properties ...object) {
	t.Helper()
	c.put(t, wire.KindDeviceModel, name, object{"metadata": object{"name": name, "namespace": "default", "uid": "u-" + name}, "spec": object{"protocol": "demo", "properties": list(properties)}})
}

func (c *cluster) device(t *testing.T, name, model, protocol string, generation int64, config object, properties ...object) {
	t.Helper()
	c.put(t, wire.KindDevice, name, object{"metadata": object{"name": name, "namespace": "default", "uid": "u-" + name, "generation": generation}, "spec": object{
		"deviceModelRef": object{"name": model}, "nodeName": "gw-1", "protocol": object{"protocolName": protocol, "configData": config}, "properties": list(properties),
		"methods": []any{object{"name": "reset", "description": "starts anew", "propertyNames": []any{"setpoint"}}},
	}})
}

func list(objects []object) (out []any) {
	for _, o := range objects {
		out = append(out, o)
	}
	return out
}

// memory is the rest of what the device host needs.
type memory struct {
	mu      sync.Mutex
	twins   map[string][]byte
	reports map[wire.Key]devicev1.Report
	kept    map[string][]string // values by NAME/PROPERTY, in the order in which they came
	missed  uint64
}

func (m *memory) Report(key wire.Key, body []byte) {
	var r devicev1.Report
	_, _ = r.UnmarshalMsg(body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reports[key] = r
}
func (m *memory) Withdraw(wire.Key)                            {}
func (m *memory) Event(wire.ObjectRef, string, string, string) {}

func (m *memory) Scan(prefix string, fn func(key string, record []byte) error) error {
	m.mu.Lock()
	twins := maps.Clone(m.twins)
	m.mu.Unlock()
	for k, r := range twins {
		if strings.HasPrefix(k, prefix) {
			if err := fn(k, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Commit(_ context.Context, records []devices.TwinRecord) error {
	return m.CommitLazy(records)
}

func (m *memory) CommitLazy(records []devices.TwinRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		if r.Record == nil {
			delete(m.twins, r.Key)
		} else {
			m.twins[r.Key] = append([]byte(nil), r.Record...)
		}
	}
	return nil
}

func (m *memory) Record(_, name, property string, v device.Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.Quality == device.Good {
		m.kept[name+"/"+property] = append(m.kept[name+"/"+property], v.Text())
	}
}

func (m *memory) Missed(_, _ string, n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.missed += n
}
func (m *memory) Retain(func(namespace, device string) bool) {}

// gateway is an agent's device host with its DMI service.
type gateway struct {
	cluster *cluster
	memory  *memory
	dir     string
	limits  mapper.Options
	host    *devices.Host
	service *firmware.Service
	stop    func()
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	dir, err := os.MkdirTemp("", "dmi") // t.TempDir may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &gateway{cluster: &cluster{objects: map[wire.Key]wire.Object{}}, dir: dir, limits: mapper.Options{BuiltIn: []string{"modbus"}, CallTimeout: time.Second},
		memory: &memory{twins: map[string][]byte{}, reports: map[wire.Key]devicev1.Report{}, kept: map[string][]string{}}}
	t.Cleanup(func() { g.halt() })
	return g
}

func (g *gateway) socket() string { return filepath.Join(g.dir, "dmi.sock") }

// start starts the agent's parts, again if they ran before.
func (g *gateway) start(t *testing.T) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	g.service = firmware.New(firmware.Options{Socket: g.socket(), Registry: g.limits, Desired: g.cluster, Watch: g.cluster.watch(), StateFile: filepath.Join(g.dir, "state", "mappers.json"), Log: log})
	host, err := devices.New(devices.Options{Others: g.service.Registry.Driver, Desired: g.cluster, Watch: g.cluster.watch(), Reports: g.memory, Events: g.memory, Twins: g.memory, History: g.memory, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	g.host = host
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.service.Run(ctx) })
	wg.Go(func() { _ = host.Run(ctx) })
	g.stop = func() { cancel(); wg.Wait() }
}

func (g *gateway) halt() {
	if g.stop != nil {
		g.stop()
		g.stop = nil
	}
}

func (g *gateway) state(name string) (devices.DeviceState, bool) {
	for _, s := range g.host.Status() {
		if s.Name == name {
			return s, true
		}
	}
	return devices.DeviceState{}, false
}

// until waits for what has to come.
func until(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	last := ""
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		ok, seen := done()
		if ok {
			return
		}
		last = seen
	}
	t.Fatalf("%s: it did not happen within a minute; last seen: %s", what, last)
}

func (g *gateway) untilState(t *testing.T, name, state, reason string) {
	t.Helper()
	until(t, name+" is "+state, func() (bool, string) {
		s, ok := g.state(name)
		return ok && s.State == state && strings.Contains(s.Message, reason), fmt.Sprintf("%+v", s)
	})
}

func (g *gateway) values(key string) []string {
	g.memory.mu.Lock()
	defer g.memory.mu.Unlock()
	return append([]string(nil), g.memory.kept[key]...)
}
