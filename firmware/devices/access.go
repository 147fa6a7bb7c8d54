package devices

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// Drivers returns the drivers that the host was made with.
func (h *Host) Drivers() []device.Driver { return h.opt.Drivers }

// Read asks the device for properties now, beside its cycles; none means all. Of a property that cannot be asked for (a wrong visitor, a
// derived one) the last known value is returned. The error wraps ErrNotFound, device.ErrUnreachable, or is that of ctx; states are
// returned with device.ErrUnreachable, too.
func (h *Host) Read(ctx context.Context, namespace, name string, properties []string) ([]PropertyState, error) {
	x := h.ask(ctx, namespace, name, &ask{names: properties, begin: beginRead})
	return x.states, x.err
}

// Write is an edge write: the value is recorded durably with the Device generation that it saw, written and verified, and it stands until
// the cloud sets another one. It returns when the outcome is known. An error that wraps device.ErrUnreachable means that the value
// is recorded and will be written when the device is back, unless a newer one comes; ErrRefused, that nothing was recorded.
func (h *Host) Write(ctx context.Context, namespace, name, property, text string) (device.WriteResult, error) {
	x := h.ask(ctx, namespace, name, &ask{begin: func(w *worker, a *ask, now time.Time) { w.beginWrite(a, property, strings.TrimSpace(text), now) }})
	return x.write, x.err
}

// Call calls a method: one of the Device's spec.methods, whose args are values for its properties, or whose one property is a method of
// the device itself; or such a property by its own name. It returns what the device showed afterwards, or the method's results.
func (h *Host) Call(ctx context.Context, namespace, name, method string, args map[string]string) (map[string]string, error) {
	w, err := h.worker(namespace, name)
	if err != nil {
		return nil, err
	}
	properties, err := w.method(method, args)
	if err != nil {
		return nil, err
	}
	if len(properties) == 0 {
		x := h.ask(ctx, namespace, name, &ask{begin: func(w *worker, a *ask, now time.Time) { w.beginCall(a, w.called(method), args, now) }})
		return x.values, x.err
	}
	out := make(map[string]string, len(properties))
	for _, property := range properties {
		res, err := h.Write(ctx, namespace, name, property, args[property])
		if err != nil {
			return out, fmt.Errorf("method %q: property %q: %w", method, property, err)
		}
		out[property] = res.Readback.Text()
	}
	return out, nil
}

// Browse lists what the device offers below node; an empty node means the root. The error wraps errors.ErrUnsupported if the protocol has no such
// thing.
func (h *Host) Browse(ctx context.Context, namespace, name, node string, limit int) ([]device.BrowseEntry, error) {
	x := h.ask(ctx, namespace, name, &ask{begin: func(w *worker, a *ask, now time.Time) {
		w.asked(a, nil, longCalls, now, func(ctx context.Context, s device.Session) (answer, error) {
			browser, ok := s.(device.Browser)
			if !ok {
				return answer{}, fmt.Errorf("devices of this protocol cannot be browsed: %w", errors.ErrUnsupported)
			}
			entries, err := browser.Browse(ctx, node, limit)
			return answer{entries: entries}, err
		})
	}})
	return x.entries, x.err
}

// Watch calls fn for every value that changed, in datum beyond its deadband or in quality, until stop is called. fn must neither block nor
// call the Host. Several calls of fn may run at a time, for different devices.
func (h *Host) Watch(fn func(namespace, name, property string, v device.Value)) (stop func()) {
	x := &watcher{fn}
	change := func(add bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		var next []*watcher
		if old := h.watchers.Load(); old != nil {
			next = slices.DeleteFunc(slices.Clone(*old), func(o *watcher) bool { return o == x })
		}
		if add {
			next = append(next, x)
		}
		h.watchers.Store(&next)
	}
	change(true)
	return func() { change(false) }
}

type watcher struct {
	fn func(namespace, name, property string, v device.Value)
}

// tell tells the watchers of a change.
func (h *Host) tell(key wire.Key, property string, v device.Value) {
	all := h.watchers.Load()
	if all == nil {
		return
	}
	for _, x := range *all {
		x.fn(key.Namespace(), key.Name(), property, v)
	}
}

// Has tells whether this node runs a device.
func (h *Host) Has(namespace, name string) bool {
	_, err := h.worker(namespace, name)
	return err == nil
}

func (h *Host) worker(namespace, name string) (*worker, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.workers[wire.NewKey(wire.KindDevice, namespace, name, "")]
	if w == nil {
		return nil, fmt.Errorf("device %s/%s on this gateway: %w", namespace, name, ErrNotFound)
	}
	return w, nil
}

func (h *Host) ask(ctx context.Context, namespace, name string, a *ask) answer {
	w, err := h.worker(namespace, name)
	if err != nil {
		return answer{err: err}
	}
	a.ctx, a.done = ctx, make(chan answer, 1)
	if !w.deliver(func(m *mail) { m.asks = append(m.asks, a) }) {
		return answer{err: errEnded}
	}
	select {
	case x := <-a.done:
		return x
	case <-ctx.Done():
		return answer{err: fmt.Errorf("device %s/%s: %w", namespace, name, ctx.Err())}
	}
}

// method looks up a method. It returns the properties to write, in the manifest's order, or none if a method of the device is to be
// called.
func (w *worker) method(name string, args map[string]string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.plan == nil {
		return nil, errEnded
	}
	if w.plan.isMethod(w.called(name)) {
		return nil, nil
	}
	var names []string
	for _, m := range w.plan.methods {
		names = append(names, m.name)
		if m.name != name {
			continue
		}
		var out []string
		for _, property := range m.properties {
			if _, given := args[property]; given {
				out = append(out, property)
			}
		}
		if len(out) == 0 || len(out) < len(args) {
			return nil, fmt.Errorf("method %q: %w: its arguments are values of the properties %s", name, ErrRefused, strings.Join(m.properties, ", "))
		}
		return out, nil
	}
	for i := range w.plan.properties {
		if w.plan.isMethod(w.plan.properties[i].name) {
			names = append(names, w.plan.properties[i].name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("method %q of device %s/%s: %w; it has none", clip(name), w.plan.namespace, w.plan.name, ErrNotFound)
	}
	return nil, fmt.Errorf("method %q of device %s/%s: %w; it has: %s", clip(name), w.plan.namespace, w.plan.name, ErrNotFound, several(names, ", "))
}

// called is the property that stands for the device's method of a name. The lock is held.
func (w *worker) called(name string) string {
	for _, m := range w.plan.methods {
		if m.name == name && len(m.properties) == 1 {
			return m.properties[0]
		}
	}
	return name
}
