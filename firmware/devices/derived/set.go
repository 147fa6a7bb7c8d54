package derived

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Set is what is calculated for one device: its properties that have an expression, in an order in which none needs a later one.
// It is immutable.
type Set struct {
	exprs []*Expr // by property; nil if it is not calculated
	types []device.Type
	order []int // the properties that are calculated
}

// Compile compiles the expressions of a device's properties. errs has an entry, an *Error, for each property whose expression is
// wrong, one that belongs to a circle included; such a property is not calculated, and a property that needs it has no value to calculate with
// and waits.
func Compile(properties []Property) (set *Set, errs map[int]error) {
	set = &Set{exprs: make([]*Expr, len(properties)), types: make([]device.Type, len(properties))}
	errs = make(map[int]error)
	index := indexOf(properties)
	for i, x := range properties {
		set.types[i] = x.Type
		if x.Expr == "" {
			continue
		}
		e, err := parse(x.Expr, properties, index)
		switch {
		case err != nil:
			errs[i] = err
		case !e.Type().Fits(x.Type):
			errs[i] = &Error{Pos: 1, Problem: fmt.Sprintf("the result is %s, and the property is %s", e.Type(), x.Type), Allowed: allowedFor(x.Type)}
		default:
			set.exprs[i] = e
		}
	}
	set.sort(properties, errs)
	return set, errs
}

func allowedFor(t device.Type) string {
	switch t {
	case device.TypeBoolean:
		return "a comparison, e.g. x > 0"
	case device.TypeString:
		return "anything"
	case device.TypeInt, device.TypeFloat, device.TypeDouble:
		return "a number; of true or false one is made by x ? 1 : 0"
	default:
		return "INT, FLOAT, DOUBLE, BOOLEAN or STRING as the property's type in the DeviceModel"
	}
}

// sort orders the calculated properties, and takes out those that need themselves.
func (s *Set) sort(properties []Property, errs map[int]error) {
	const (
		fresh = iota
		open
		done
	)
	state := make([]uint8, len(properties))
	var path []int
	var visit func(i int)
	visit = func(i int) {
		if state[i] == done || s.exprs[i] == nil {
			return
		}
		if state[i] == open {
			s.circle(path[slices.Index(path, i):], properties, errs)
			return
		}
		state[i] = open
		path = append(path, i)
		for _, in := range s.exprs[i].Inputs() {
			visit(in)
			if s.exprs[i] == nil { // it was found to be part of a circle
				break
			}
		}
		path = path[:len(path)-1]
		state[i] = done
		if s.exprs[i] != nil {
			s.order = append(s.order, i)
		}
	}
	for i := range properties {
		visit(i)
	}
}

// circle refuses properties that need each other.
func (s *Set) circle(members []int, properties []Property, errs map[int]error) {
	for at, i := range members {
		var names []string
		for k := range members {
			names = append(names, clip(properties[members[(at+k)%len(members)]].Name))
		}
		names = append(names, names[0])
		errs[i] = &Error{Pos: 1, Problem: "the property needs itself: " + strings.Join(names, " → "), Allowed: "an expression over other properties; its own last value is no input"}
		s.exprs[i] = nil
	}
}

// Expr returns the expression of a property, nil if it is not calculated.
func (s *Set) Expr(i int) *Expr { return s.exprs[i] }

// Calculated tells whether the set calculates anything.
func (s *Set) Calculated() bool { return len(s.order) > 0 }

// State is what is known of a device's properties, by their index. It belongs to one goroutine.
type State struct {
	set     *Set
	machine machine
	fresh   []bool
	faults  []fault
	out     []Result
}

// Result is a calculated property.
type Result struct {
	Index int
	Value device.Value
}

// fault is the last reason that was made for a bad or doubtful result. A fault that lasts costs no memory each time.
type fault struct {
	slot   int
	reason string // of the input
	text   string
}

// State returns a state in which nothing is known.
func (s *Set) State() *State {
	return &State{set: s, machine: machine{cells: make([]cell, len(s.exprs))}, fresh: make([]bool, len(s.exprs)), faults: make([]fault, len(s.exprs))}
}

// Adopt takes over what another state knows of a property that was at index from there: a manifest that changed something else does not
// forget the previous reading.
func (s *State) Adopt(i int, old *State, from int) { s.machine.cells[i] = old.machine.cells[from] }

// Put takes over a reading.
func (s *State) Put(i int, v device.Value) {
	c := &s.machine.cells[i]
	if c.seen && !unusable(c.value) {
		c.previous = c.value
	}
	c.value, c.seen = v, true
	s.fresh[i] = true
}

// Run calculates what depends on readings that were put in since the last Run. The result is valid until the next Run.
func (s *State) Run(now time.Time) []Result {
	s.out = s.out[:0]
	for _, i := range s.set.order {
		e := s.set.exprs[i]
		if !slices.ContainsFunc(e.inputs, func(in int) bool { return s.fresh[in] }) {
			continue
		}
		v, ok := s.eval(e, &s.faults[i], now)
		if !ok {
			continue
		}
		converted, err := v.Convert(s.set.types[i])
		if err != nil {
			converted = device.BadValue("the result does not fit: "+err.Error(), v.Server)
		}
		s.Put(i, converted)
		s.out = append(s.out, Result{Index: i, Value: converted})
	}
	clear(s.fresh)
	return s.out
}

// Eval calculates an expression that is no property: the condition of an alarm. It is to be called after Run, with a Memo that belongs to
// the expression alone. ok is false while a reading is missing.
func (s *State) Eval(e *Expr, memo *Memo, now time.Time) (v device.Value, ok bool) {
	return s.eval(e, &memo.fault, now)
}

// Memo is what a State remembers of one expression that is no property.
type Memo struct{ fault fault }

func (s *State) eval(e *Expr, f *fault, now time.Time) (device.Value, bool) {
	m := &s.machine
	*m = machine{cells: m.cells, now: now}
	d := e.root.run(m, e.root)
	server := m.server
	if server.IsZero() {
		server = now
	}
	switch {
	case m.waiting:
		return device.Value{}, false
	case m.bad != nil:
		return device.BadValue(f.why(m, m.bad), server), true
	case m.over:
		return device.BadValue(m.fault, server), true
	case e.root.typ == Float && !(d.f-d.f == 0): // NaN and infinities
		return device.BadValue("the result is not a finite number", server), true
	}
	v := valueOf(d, e.root.typ).At(server)
	v.Source = m.source
	if m.doubtful != nil {
		v = v.Doubt(device.Uncertain, f.why(m, m.doubtful))
	}
	return v, true
}

// why says which input is to blame.
func (f *fault) why(m *machine, n *node) string {
	v := m.cells[n.slot].value
	if f.text == "" || f.slot != n.slot || f.reason != v.Reason {
		reason := v.Reason
		if reason == "" {
			reason = "its quality is " + v.Quality.String()
		}
		*f = fault{slot: n.slot, reason: v.Reason, text: fmt.Sprintf("input %q: %s", n.name, reason)}
	}
	return f.text
}
