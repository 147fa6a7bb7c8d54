package devices

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/mappers/device"
)

// Errors of the Host's methods that ask a device; errors.ErrUnsupported means that the driver lacks the ability.
var (
	ErrNotFound = errors.New("not found") // no such device, property or method
	ErrRefused  = errors.New("refused")   // the DeviceModel or the point does not allow it; nothing was recorded
	errEnded    = fmt.Errorf("the device was removed, or the agent is stopping: %w", ErrNotFound)
	errBusy     = errors.New("too many requests of this device are under way: try again")
)

// Limits of what others ask of a device.
const (
	maxAsks   = 16 // at a time, of one device
	longCalls = time.Minute
)

// ask is a request of somebody who waits.
type ask struct {
	ctx   context.Context
	begin func(w *worker, a *ask, now time.Time) // with the worker's lock held
	names []string                               // of a read
	done  chan answer                            // takes one
}

// answer is what an ask gets.
type answer struct {
	states  []PropertyState
	write   device.WriteResult
	values  map[string]string
	entries []device.BrowseEntry
	err     error
}

func (a *ask) answer(x answer) {
	select {
	case a.done <- x:
	default: // it has one
	}
}

// writeWait is an edge write whose writer waits for the outcome.
type writeWait struct {
	ask     *ask
	name    string
	desired twin.Desired
}

func unreachable(why string) error {
	if why == "" {
		why = "the driver session was ended"
	}
	return device.Unreachable("%s", why)
}

// reply answers after the twins are committed.
func (w *worker) reply(a *ask, x answer) {
	w.replies = append(w.replies, func() { a.answer(x) })
}

func (w *worker) onAsk(a *ask, now time.Time) {
	asks := 0
	for _, c := range w.calls {
		if c.kind == callAsk {
			asks++
		}
	}
	switch {
	case a.ctx.Err() != nil: // nobody waits any more
	case w.plan == nil:
		w.reply(a, answer{err: errEnded})
	case w.plan.driver == nil:
		w.reply(a, answer{err: fmt.Errorf("%w: the device cannot be asked until this is put right: %s", ErrRefused, w.validCondition().Message)})
	case asks >= maxAsks || len(w.waits) >= maxAsks:
		w.reply(a, answer{err: errBusy})
	default:
		a.begin(w, a, now)
	}
}

// asked starts a driver call for somebody who waits.
func (w *worker) asked(a *ask, b *batch, limit time.Duration, now time.Time, fn func(ctx context.Context, s device.Session) (answer, error)) {
	if w.session == nil {
		why := w.crashed
		if why == "" {
			why = "the driver session is being opened"
		}
		w.reply(a, answer{err: unreachable(why)})
		return
	}
	c, ctx := w.begin(callAsk, limit, now)
	c.ask, c.batch = a, b
	session := w.session
	stop := context.AfterFunc(a.ctx, c.cancel)
	w.start(c, func() result {
		defer stop()
		x, err := fn(ctx, session)
		return result{answer: x, err: err}
	})
}

func (w *worker) finishAsk(r result, now time.Time) {
	a, x := r.call.ask, r.answer
	x.err = r.err
	if r.call.batch != nil && a.ctx.Err() == nil {
		read := make(map[string]device.Value)
		w.readings(r, now, func(x *reading) { read[x.prop.name] = x.value })
		if r.err == nil {
			w.online(now)
		}
		x.states = w.propertyStates(a.names)
		for i := range x.states { // what was read, and not what the twin keeps of the time before
			if v, ok := read[x.states[i].Name]; ok {
				x.states[i].Quality, x.states[i].Reason = v.Quality, v.Reason
				if v.Kind() != device.KindNone { // otherwise the last datum is shown, which is as old as it is
					x.states[i].At = v.Server
				}
			}
		}
	}
	w.reply(a, x)
}

// beginRead asks the device for properties; of those that it cannot be asked for, the twin counts.
func beginRead(w *worker, a *ask, now time.Time) {
	b := &batch{plan: w.plan}
	for _, name := range a.names {
		i := w.plan.find(name)
		if i < 0 {
			w.reply(a, answer{err: w.noProperty(name)})
			return
		}
		if prop := &w.plan.properties[i]; prop.readable() && !slices.Contains(b.items, int32(i)) {
			b.items, b.points = append(b.items, int32(i)), append(b.points, prop.point)
		}
	}
	if len(a.names) == 0 {
		for i := range w.plan.properties {
			if prop := &w.plan.properties[i]; prop.readable() {
				b.items, b.points = append(b.items, int32(i)), append(b.points, prop.point)
			}
		}
	}
	if len(b.items) == 0 {
		w.reply(a, answer{states: w.propertyStates(a.names)})
		return
	}
	b.values = make([]device.Value, len(b.points))
	w.asked(a, b, callTimeout, now, func(ctx context.Context, s device.Session) (answer, error) {
		return answer{}, s.Read(ctx, b.points, b.values)
	})
}

func (w *worker) noProperty(name string) error {
	names := make([]string, 0, len(w.plan.properties))
	for i := range w.plan.properties {
		names = append(names, w.plan.properties[i].name)
	}
	slices.Sort(names)
	return fmt.Errorf("property %q of device %s/%s: %w; it has: %s", clip(name), w.plan.namespace, w.plan.name, ErrNotFound, several(names, ", "))
}

// beginWrite records an edge write with the generation that it saw, and writes it.
func (w *worker) beginWrite(a *ask, name, text string, now time.Time) {
	i := w.plan.find(name)
	if i < 0 {
		w.reply(a, answer{err: w.noProperty(name)})
		return
	}
	prop, t := &w.plan.properties[i], &w.twins[i]
	if err := prop.writable(text); err != nil {
		w.reply(a, answer{err: fmt.Errorf("property %q: %w: %w", name, ErrRefused, err)})
		return
	}
	if t.want == nil {
		t.want = new(twin.Property)
	}
	if !t.want.SetEdge(text, w.plan.generation, t.want.EdgeDesired.Seq+1) {
		w.reply(a, answer{err: fmt.Errorf("property %q: %w: a newer value from the cloud stands", name, ErrRefused)})
		return
	}
	w.durable = append(w.durable, w.record(prop.name, t))
	if !slices.Contains(w.wants, int32(i)) {
		w.wants = append(w.wants, int32(i))
	}
	w.dropWaits() // of an older write of the same property
	w.waits = append(w.waits, writeWait{a, name, t.want.Desired()})
	w.mayWrite, w.status.changed = true, true
	if w.session == nil {
		w.failWaits(unreachable(w.crashed))
	}
}

// settleWaits answers who waits for the outcome of a write.
func (w *worker) settleWaits(name string, d twin.Desired, res device.WriteResult) {
	w.waits = slices.DeleteFunc(w.waits, func(x writeWait) bool {
		if x.name != name || x.desired != d {
			return false
		}
		w.answerWrite(x.ask, res)
		return true
	})
}

// answerWrite answers a write. One that did not reach the device is still wanted.
func (w *worker) answerWrite(a *ask, res device.WriteResult) {
	w.reply(a, answer{write: res, err: res.Err})
}

// failWaits answers all who wait for writes.
func (w *worker) failWaits(err error) {
	for _, x := range w.waits {
		w.answerWrite(x.ask, device.WriteResult{Err: unreachable(oneLine(err))})
	}
	w.waits = nil
}

// dropWaits answers those whose write does not count any more.
func (w *worker) dropWaits() {
	w.waits = slices.DeleteFunc(w.waits, func(x writeWait) bool {
		t := w.twinOf(x.name)
		switch {
		case t == nil:
			w.reply(x.ask, answer{err: w.noProperty(x.name)})
		case t.want == nil || t.want.Desired() != x.desired:
			w.reply(x.ask, answer{err: fmt.Errorf("property %q: a newer value took the place of this one before it was written", x.name)})
		default:
			return false
		}
		return true
	})
}

// beginCall calls a method of the device.
func (w *worker) beginCall(a *ask, name string, args map[string]string, now time.Time) {
	i := w.plan.find(name)
	if i < 0 {
		w.reply(a, answer{err: w.noProperty(name)})
		return
	}
	point := w.plan.properties[i].point
	method, ok := point.(device.Method)
	if !ok {
		w.reply(a, answer{err: fmt.Errorf("property %q is a value and no method of the device: write it: %w", name, errors.ErrUnsupported)})
		return
	}
	in, out := method.Arguments()
	values, err := arguments(name, in, args)
	if err != nil {
		w.reply(a, answer{err: fmt.Errorf("%w: %w", ErrRefused, err)})
		return
	}
	w.asked(a, nil, longCalls, now, func(ctx context.Context, s device.Session) (answer, error) {
		caller, ok := s.(device.Caller)
		if !ok {
			return answer{}, fmt.Errorf("the driver cannot call methods: %w", errors.ErrUnsupported)
		}
		results, err := caller.Call(ctx, point, values)
		return answer{values: named(out, results)}, err
	})
}

// arguments brings the texts that somebody gave into the order and types of a method.
func arguments(name string, in []device.Argument, args map[string]string) ([]device.Value, error) {
	if in == nil {
		values := make([]device.Value, 0, len(args))
		for n := range len(args) {
			text, ok := args[strconv.Itoa(n)]
			if !ok {
				return nil, fmt.Errorf("method %q: argument %d is missing: only the device knows their names; give them as 0, 1, …", name, n)
			}
			values = append(values, device.String(text))
		}
		return values, nil
	}
	values := make([]device.Value, 0, len(in))
	var allowed []string
	for _, arg := range in {
		allowed = append(allowed, arg.Name+" ("+arg.Type.String()+")")
		text, ok := args[arg.Name]
		if !ok {
			return nil, fmt.Errorf("method %q: argument %q (%s) is missing", name, arg.Name, arg.Type)
		}
		v, err := device.Parse(text, arg.Type)
		if err != nil {
			return nil, fmt.Errorf("method %q: argument %q: %w", name, arg.Name, err)
		}
		values = append(values, v)
	}
	for given := range args {
		if !slices.ContainsFunc(in, func(x device.Argument) bool { return x.Name == given }) {
			return nil, fmt.Errorf("method %q: argument %q is unknown; allowed: %s", name, clip(given), several(allowed, ", "))
		}
	}
	return values, nil
}

// named gives results the names that the method declares, or their numbers.
func named(out []device.Argument, results []device.Value) map[string]string {
	values := make(map[string]string, len(results))
	for n, v := range results {
		name := strconv.Itoa(n)
		if n < len(out) && out[n].Name != "" {
			name = out[n].Name
		}
		values[name] = v.Text()
	}
	return values
}
