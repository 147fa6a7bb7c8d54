package dmi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// fakeMapper holds devices as a mapper does, and notes the calls.
type fakeMapper struct {
	mu      sync.Mutex
	calls   []string
	devices map[string]Device
	models  map[string]Model
	wedged  bool
	gone    bool
	refuse  string // name of a device that it does not take
}

func newFake() *fakeMapper {
	return &fakeMapper{devices: map[string]Device{}, models: map[string]Model{}}
}

func (f *fakeMapper) call(ctx context.Context, name string) error {
	f.mu.Lock()
	f.calls = append(f.calls, name)
	wedged, gone := f.wedged, f.gone
	f.mu.Unlock()
	switch {
	case gone:
		return fmt.Errorf("%w: connection refused", ErrNoAnswer)
	case wedged:
		<-ctx.Done()
		return fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	}
	return nil
}

func (f *fakeMapper) Put(ctx context.Context, d Device, known bool) error {
	if err := f.call(ctx, map[bool]string{true: "update ", false: "register "}[known]+d.Name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.Name == f.refuse {
		return errors.New("no such bus")
	}
	if _, ok := f.models[keyOf(d.Namespace, d.Model)]; !ok {
		return errors.New("model not found")
	}
	if _, ok := f.devices[d.Name]; ok != known {
		return errors.New("known or not known is wrong")
	}
	f.devices[d.Name] = d
	return nil
}

func (f *fakeMapper) Remove(ctx context.Context, _, name string) error {
	if err := f.call(ctx, "remove "+name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.devices, name)
	return nil
}

func (f *fakeMapper) PutModel(ctx context.Context, m Model, known bool) error {
	if err := f.call(ctx, map[bool]string{true: "update model ", false: "create model "}[known]+m.Name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.models[keyOf(m.Namespace, m.Name)]; !ok && known {
		return errors.New("model not found")
	}
	f.models[keyOf(m.Namespace, m.Name)] = m
	return nil
}

func (f *fakeMapper) RemoveModel(ctx context.Context, namespace, name string) error {
	if err := f.call(ctx, "remove model "+name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.models, keyOf(namespace, name))
	return nil
}

func (f *fakeMapper) Has(ctx context.Context, d Device) (bool, error) {
	if err := f.call(ctx, "get "+d.Name); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	have, ok := f.devices[d.Name]
	if !ok {
		return false, errors.New("not found")
	}
	return sumOf(have) == sumOf(d), nil
}

func (f *fakeMapper) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// took returns the calls since the last took, without probes.
func (f *fakeMapper) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.DeleteFunc(f.calls, func(c string) bool { return strings.HasPrefix(c, "get ") })
	f.calls = nil
	return out
}

func (f *fakeMapper) desired(name, property string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.devices[name].Properties {
		if p.Name == property {
			return p.Desired
		}
	}
	return "no such property"
}

func testDevice(name string, properties ...string) (Device, Model) {
	d := Device{Namespace: "default", Name: name, Model: "m-" + name, Protocol: "Weather", Config: map[string]any{"port": int64(7)}}
	m := Model{Namespace: "default", Name: "m-" + name}
	for _, p := range properties {
		d.Properties = append(d.Properties, Property{Name: p, CollectCycle: 1000})
		m.Properties = append(m.Properties, ModelProperty{Name: p, Type: "INT", AccessMode: "ReadWrite"})
	}
	return d, m
}

func registration(name string, m Mapper) Registration {
	return Registration{Name: name, Protocol: "weather", Address: "/run/" + name, Mapper: m, Caller: Caller{5}}
}

var fromMapper = Caller{5}

// world is a registry that runs, in virtual time.
type world struct {
	*Registry
	t *testing.T
}

func inWorld(t *testing.T, o Options, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{NewRegistry(o), t}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = w.Run(ctx)
		}()
		synctest.Wait()
		test(w)
		cancel()
		<-done
	})
}

func (w *world) keep(d Device, m Model) { w.Keep(d, m) }

// open opens a session as the host does.
func (w *world) open(name string, wanted ...device.Write) *session {
	w.t.Helper()
	s, err := w.Driver("weather").Open(w.t.Context(), device.Config{Device: "default/" + name})
	if err != nil {
		w.t.Fatal(err)
	}
	s.(*session).Follow(wanted)
	return s.(*session)
}

func (w *world) register(name string, m Mapper, withData bool) ([]Model, []Device) {
	w.t.Helper()
	models, devices, err := w.Register(registration(name, m), withData, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return models, devices
}

func intPoint(property string) device.Point { return point{property, device.TypeInt} }

func (w *world) read(s *session, property string) (device.Value, error) {
	values := make([]device.Value, 1)
	err := s.Read(w.t.Context(), []device.Point{intPoint(property)}, values)
	return values[0], err
}

func (w *world) report(name, property, value string) {
	w.t.Helper()
	if err := w.Report(fromMapper, "default", name, []Twin{{Property: property, Value: value, Reported: true}}); err != nil {
		w.t.Fatal(err)
	}
}

func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func wantCalls(t *testing.T, f *fakeMapper, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := f.took(); !slices.Equal(got, want) {
		t.Errorf("the mapper was called %q, want %q", got, want)
	}
}
