package derived

import (
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Expr is a compiled expression. It is immutable.
type Expr struct {
	root   *node
	inputs []int // the properties that it names, in ascending order
	timed  bool
}

// Type returns the type of the result.
func (e *Expr) Type() Type { return e.root.typ }

// Inputs returns the indices of the properties that the expression names.
func (e *Expr) Inputs() []int { return e.inputs }

// Timed tells whether the result changes with the time although no reading comes: the expression has age or now.
func (e *Expr) Timed() bool { return e.timed }

// node is one step of an evaluation.
type node struct {
	run      func(m *machine, n *node) datum
	typ      Type
	pos      int // character in the expression, from 1
	args     []*node
	slot     int   // the property that it is about
	val      datum // of a constant
	constant bool
	name     string // of the property that it is about
	why      string // the reason of a bad value that this step can cause, made beforehand so that a lasting fault costs nothing
}

// datum is a value of a known type.
type datum struct {
	i int64 // Bool (0, 1) and Int
	f float64
	s string
}

func boolean(b bool) datum {
	if b {
		return datum{i: 1}
	}
	return datum{}
}

// cell is what is known of one property.
type cell struct {
	value    device.Value // the last reading
	previous device.Value // the usable reading before it
	seen     bool
}

// machine evaluates one expression at a time.
type machine struct {
	cells []cell
	now   time.Time

	over    bool   // there will be no result
	waiting bool   // … only because a reading is still missing
	fault   string // … for this reason
	bad     *node  // … for the reason of this input

	doubtful *node // the first input that was used and is not good
	server   time.Time
	source   time.Time
}

func (m *machine) fail(why string) datum {
	if !m.over {
		m.over, m.fault = true, why
	}
	return datum{}
}

// wait ends an evaluation that needs a reading which has not come yet.
func (m *machine) wait() datum {
	if !m.over {
		m.over, m.waiting = true, true
	}
	return datum{}
}

// use returns the reading that a node is about, if it can be calculated with.
func (m *machine) use(n *node) (device.Value, bool) {
	c := &m.cells[n.slot]
	v := c.value
	switch {
	case !c.seen:
		m.wait()
		return v, false
	case unusable(v):
		if !m.over {
			m.over, m.bad = true, n
		}
		return v, false
	}
	m.touch(n, v)
	return v, true
}

func unusable(v device.Value) bool { return v.Quality == device.Bad || v.Kind() == device.KindNone }

// touch notes that a reading counts for the quality and the time of the result.
func (m *machine) touch(n *node, v device.Value) {
	if v.Quality != device.Good && m.doubtful == nil {
		m.doubtful = n
	}
	if v.Server.After(m.server) {
		m.server = v.Server
	}
	if v.Source.After(m.source) {
		m.source = v.Source
	}
}

// datumOf returns the datum of a value as type t; false if the value holds something else, or more than 63 bits.
func datumOf(v device.Value, t Type) (datum, bool) {
	switch k := v.Kind(); {
	case t == Bool && k == device.KindBool:
		return boolean(v.AsBool()), true
	case t == Int && k == device.KindInt:
		return datum{i: v.AsInt()}, true
	case t == Int && k == device.KindUint:
		return datum{i: int64(v.AsUint())}, v.AsUint() < 1<<63
	case t == Float && (k == device.KindFloat || k == device.KindInt || k == device.KindUint):
		return datum{f: v.AsFloat()}, true
	case t == Text && k == device.KindString:
		return datum{s: v.AsString()}, true
	default:
		return datum{}, false
	}
}

// valueOf is the inverse of datumOf.
func valueOf(d datum, t Type) device.Value {
	switch t {
	case Bool:
		return device.Bool(d.i != 0)
	case Int:
		return device.Int(d.i)
	case Float:
		return device.Float(d.f)
	default:
		return device.String(d.s)
	}
}

// take turns a reading into a datum of the node's type.
func (m *machine) take(n *node, v device.Value) datum {
	d, ok := datumOf(v, n.typ)
	if !ok {
		return m.fail(n.why)
	}
	return d
}

func runConstant(_ *machine, n *node) datum { return n.val }

func runProperty(m *machine, n *node) datum {
	v, ok := m.use(n)
	if !ok {
		return datum{}
	}
	return m.take(n, v)
}
