package devices

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// world is everything around a host: the desired view, the relay, the store.
type world struct {
	t       *testing.T
	fake    *devicetest.Fake
	drivers []device.Driver // beside fake

	mu      sync.Mutex
	objects map[wire.Key]wire.Object
	changed chan struct{}
	touched map[wire.Key]bool
	reports map[wire.Key][]devicev1.Report
	gone    []wire.Key
	events  []string
	parts   []string // of the Device that they are about
	records map[string][]byte
	commits int
	lazy    int  // records of CommitLazy
	full    bool // the store's disk

	history   History
	noHistory string
	push      Push
	watching  func()

	cancel context.CancelFunc
	done   chan error
	host   *Host
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, fake: devicetest.NewFake(), objects: map[wire.Key]wire.Object{}, changed: make(chan struct{}, 1), touched: map[wire.Key]bool{},
		reports: map[wire.Key][]devicev1.Report{}, records: map[string][]byte{},
	}
}

func (w *world) Get(k wire.Key) (wire.Object, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.objects[k]
	return o, ok
}

func (w *world) List(kind wire.Kind) (out []wire.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(w.objects)) {
		if k.Kind() == kind {
			out = append(out, w.objects[k])
		}
	}
	return out
}

// Write takes the host's errors: a panic of the host's own code is never expected.
func (w *world) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "handling this device panicked") && len(w.drivers) == 0 {
		w.t.Errorf("%s", line)
	}
	return len(line), nil
}

func (w *world) C() <-chan struct{} { return w.changed }

func (w *world) Take() []wire.Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := slices.Collect(maps.Keys(w.touched))
	clear(w.touched)
	return keys
}

// touch tells the host of a change; w.mu is held.
func (w *world) touch(key wire.Key) {
	w.touched[key] = true
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *world) Report(k wire.Key, body []byte) {
	var r devicev1.Report
	if _, err := r.UnmarshalMsg(body); err != nil {
		w.t.Errorf("report: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports[k] = append(w.reports[k], r)
}

func (w *world) Withdraw(k wire.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = append(w.gone, k)
}

func (w *world) Event(ref wire.ObjectRef, typ, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, typ+" "+ref.Namespace+"/"+ref.Name+" "+reason+": "+message)
	w.parts = append(w.parts, ref.FieldPath)
}

func (w *world) Scan(prefix string, fn func(string, []byte) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, v := range w.records {
		if strings.HasPrefix(k, prefix) {
			if err := fn(k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) Commit(_ context.Context, records []TwinRecord) error {
	w.mu.Lock()
	w.commits++
	w.mu.Unlock()
	return w.put(records)
}

func (w *world) CommitLazy(records []TwinRecord) error {
	w.mu.Lock()
	w.lazy += len(records)
	w.mu.Unlock()
	return w.put(records)
}

func (w *world) put(records []TwinRecord) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full {
		return errors.New("no space left on device")
	}
	for _, r := range records {
		if r.Record == nil {
			delete(w.records, r.Key)
		} else {
			w.records[r.Key] = slices.Clone(r.Record)
		}
	}
	return nil
}

// apply puts an object into the desired view, or removes it if doc is empty.
func (w *world) apply(kind wire.Kind, name, doc string) {
	w.t.Helper()
	key := wire.NewKey(kind, "ns", name, "")
	w.mu.Lock()
	defer w.mu.Unlock()
	if doc == "" {
		delete(w.objects, key)
	} else {
		dec := json.NewDecoder(strings.NewReader(doc))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			w.t.Fatalf("%v in %s", err, doc)
		}
		body, err := msgp.AppendIntf(nil, v)
		if err != nil {
			w.t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		w.objects[key] = wire.Object{Key: key, Version: wire.Version{Hash: [16]byte(sum[:16])}, Body: body}
	}
	w.touch(key)
}

const modelDoc = `{"metadata": {"name": "m", "namespace": "ns"}, "spec": {"protocol": "fake", "properties": [
	{"name": "temp", "type": "FLOAT", "accessMode": "ReadOnly", "unit": "C"},
	{"name": "set", "type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "100"},
	{"name": "on", "type": "BOOLEAN", "accessMode": "ReadWrite"}]}}`

// deviceDoc is a device "d" with properties given as JSON.
func deviceDoc(generation string, properties ...string) string {
	return `{"metadata": {"name": "d", "namespace": "ns", "uid": "u1", "generation": ` + generation + `}, "spec": {"deviceModelRef": {"name": "m"},
		"protocol": {"protocolName": "fake", "configData": {"id": "1"}}, "properties": [` + strings.Join(properties, ",") + `]}}`
}

const (
	tempProp = `{"name": "temp", "collectCycle": 100, "visitors": {"configData": {"cell": "t"}}}`
	onProp   = `{"name": "on", "collectCycle": 100, "visitors": {"configData": {"cell": "o"}}}`
)

func setProp(desired string) string {
	return `{"name": "set", "collectCycle": 100, "desired": {"value": "` + desired + `"}, "visitors": {"configData": {"cell": "s"}}}`
}

func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	h, err := New(Options{Drivers: append([]device.Driver{w.fake}, w.drivers...), Desired: w, Watch: w, Reports: w, Events: w, Twins: w, History: w.history, NoHistory: w.noHistory, Push: w.push, Watching: w.watching, Log: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		w.t.Fatal(err)
	}
	w.cancel, w.done, w.host = cancel, make(chan error, 1), h
	go func() { w.done <- h.Run(ctx) }()
	w.settle(50 * time.Millisecond)
}

func (w *world) stop() {
	w.t.Helper()
	w.cancel()
	if err := <-w.done; err != nil {
		w.t.Errorf("Run: %v", err)
	}
}

// settle lets time pass, and everything that it causes happen.
func (w *world) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var devKey = wire.NewKey(wire.KindDevice, "ns", "d", "")

// last returns the newest report of device d.
func (w *world) last() devicev1.Report {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	rs := w.reports[devKey]
	if len(rs) == 0 {
		w.t.Fatal("no report")
	}
	return rs[len(rs)-1]
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.reports[devKey])
}

func (w *world) twin(name string) devicev1.Twin {
	w.t.Helper()
	for _, tw := range w.last().DeviceStatus.Twins {
		if tw.PropertyName == name {
			return tw
		}
	}
	w.t.Fatalf("no twin %q in %+v", name, w.last())
	return devicev1.Twin{}
}

func (w *world) condition(typ string) devicev1.Condition {
	w.t.Helper()
	for _, c := range w.last().Conditions {
		if c.Type == typ {
			return c
		}
	}
	w.t.Fatalf("no condition %q", typ)
	return devicev1.Condition{}
}

// simulate runs f with a fresh world in a bubble of fake time.
func simulate(t *testing.T, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fake.Set("1", "t", device.Float32(21.5))
		w.fake.Set("1", "s", device.Int(1))
		w.fake.Set("1", "o", device.Bool(false))
		w.apply(wire.KindDeviceModel, "m", modelDoc)
		f(w)
	})
}
