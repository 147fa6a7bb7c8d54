package devicetest

import (
	"context"
	"slices"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// NewTelling returns a fake driver whose sessions tell of changes and can be called and browsed.
func NewTelling() *Fake {
	f := NewFake()
	f.telling, f.subs, f.refused = true, make(map[*fakeSubscription]bool), make(map[string]bool)
	return f
}

// OnlyPolled makes a cell one that sessions do not tell of.
func (f *Fake) OnlyPolled(cell string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused[cell] = true
}

// EndSubscriptions ends all subscriptions with an error.
func (f *Fake) EndSubscriptions(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sub := range f.subs {
		sub.end <- err
		delete(f.subs, sub)
	}
}

// Gap tells all subscribers that values of a cell may be lost.
func (f *Fake) Gap(id, cell, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tell(id, cell, f.unit(id).cells[cell].Doubt(device.Uncertain, why))
}

// Subscriptions returns how many there are.
func (f *Fake) Subscriptions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subs)
}

// Cycles returns how often the cells that are subscribed to would be read, as the host says it.
func (f *Fake) Cycles() map[string]time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]time.Duration)
	for sub := range f.subs {
		for i, cell := range sub.cells {
			out[cell] = sub.cycles[i]
		}
	}
	return out
}

// Reads returns how often Read was called.
func (f *Fake) Reads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

type fakeSubscription struct {
	id     string
	cells  []string
	cycles []time.Duration
	notify func(int, device.Value)
	end    chan error
}

// tell notifies subscribers; f.mu is held, so calls come one at a time.
func (f *Fake) tell(id, cell string, v device.Value) {
	for sub := range f.subs {
		if i := slices.Index(sub.cells, cell); i >= 0 && sub.id == id {
			sub.notify(i, v)
		}
	}
}

// tellingSession is a session with every ability.
type tellingSession struct{ *fakeSession }

// Subscribe implements device.Subscriber.
func (s *tellingSession) Subscribe(ctx context.Context, points []device.Point, notify func(int, device.Value)) error {
	f := s.driver
	sub := &fakeSubscription{id: s.id, notify: notify, end: make(chan error, 1)}
	refused := &device.NotSubscribableError{Reason: "it only answers"}
	f.mu.Lock()
	for i, p := range points {
		point := p.(*fakePoint)
		if f.refused[point.cell] {
			refused.Points = append(refused.Points, i)
		}
		sub.cells, sub.cycles = append(sub.cells, point.cell), append(sub.cycles, point.cycle)
	}
	if len(refused.Points) > 0 {
		f.mu.Unlock()
		return refused
	}
	for i, cell := range sub.cells {
		if v, ok := f.unit(s.id).cells[cell]; ok && f.fault == None {
			notify(i, v)
		}
	}
	f.subs[sub] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subs, sub)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return device.ErrClosed
	case err := <-sub.end:
		return err
	}
}

// fakeMethod is a point that stands for a method.
type fakeMethod struct{ name string }

func (m *fakeMethod) String() string { return "method " + m.name }

// Arguments implements device.Method.
func (m *fakeMethod) Arguments() (in, out []device.Argument) {
	return []device.Argument{{Name: "speed", Type: device.TypeInt}, {Name: "mode", Type: device.TypeString}}, []device.Argument{{Name: "first", Type: device.TypeString}}
}

// Call implements device.Caller: it returns the arguments in reverse.
func (s *tellingSession) Call(ctx context.Context, _ device.Point, args []device.Value) ([]device.Value, error) {
	if err := s.meet(ctx); err != nil {
		return nil, err
	}
	out := slices.Clone(args)
	slices.Reverse(out)
	return out, nil
}

// Browse implements device.Browser: it lists the cells.
func (s *tellingSession) Browse(ctx context.Context, _ string, limit int) ([]device.BrowseEntry, error) {
	if err := s.meet(ctx); err != nil {
		return nil, err
	}
	s.driver.mu.Lock()
	defer s.driver.mu.Unlock()
	var out []device.BrowseEntry
	for cell := range s.driver.unit(s.id).cells {
		out = append(out, device.BrowseEntry{Node: cell, Name: cell, Visitor: map[string]any{"cell": cell}, Type: device.TypeInt, Writable: true})
	}
	slices.SortFunc(out, func(a, b device.BrowseEntry) int { return len(a.Name) - len(b.Name) })
	return out[:min(limit, len(out))], nil
}
