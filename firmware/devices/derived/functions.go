package derived

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// function is one that expressions may call. params has a letter for each parameter: n a number (all of them whole: the result is whole,
// too), f a number, i a whole number, b true or false, t a text, p the name of a property, s of the property's type.
type function struct {
	name   string
	params string
	more   bool // the last parameter may be repeated
	result Type // Invalid: Int or Float, as the arguments are; of a function of a property: as the property is
	run    func(m *machine, n *node) datum
	whole  func(m *machine, n *node) datum // instead of run, if all arguments are whole numbers
	why    string                          // the reason of a bad value that it can cause
}

// functions is the table of all functions. docs/derived.md lists the same, and a test holds them together.
func functions() []function {
	return []function{
		{name: "abs", params: "n", run: runAbs, whole: runAbsInt, why: tooLarge},
		{name: "min", params: "nn", more: true, run: runMin, whole: runMin},
		{name: "max", params: "nn", more: true, run: runMax, whole: runMax},
		{name: "clamp", params: "nnn", run: runClamp, whole: runClamp},
		{name: "scale", params: "fffff", result: Float, run: runScale, why: "a range without width"},
		{name: "round", params: "f", result: Float, run: float1(math.Round)},
		{name: "floor", params: "f", result: Float, run: float1(math.Floor)},
		{name: "ceil", params: "f", result: Float, run: float1(math.Ceil)},
		{name: "trunc", params: "f", result: Float, run: float1(math.Trunc)},
		{name: "sqrt", params: "f", result: Float, run: float1(math.Sqrt)},
		{name: "exp", params: "f", result: Float, run: float1(math.Exp)},
		{name: "ln", params: "f", result: Float, run: float1(math.Log)},
		{name: "log10", params: "f", result: Float, run: float1(math.Log10)},
		{name: "sin", params: "f", result: Float, run: float1(math.Sin)},
		{name: "cos", params: "f", result: Float, run: float1(math.Cos)},
		{name: "tan", params: "f", result: Float, run: float1(math.Tan)},
		{name: "atan", params: "f", result: Float, run: float1(math.Atan)},
		{name: "pow", params: "ff", result: Float, run: runPow},
		{name: "int", params: "f", result: Int, run: runInt, why: tooLarge},
		{name: "float", params: "f", result: Float, run: float1(func(f float64) float64 { return f })},

		{name: "bit", params: "ii", result: Bool, run: runBit, why: "a bit's number is outside 0 to 63"},
		{name: "bits", params: "iii", result: Int, run: runBits, why: "bits are outside 0 to 63"},
		{name: "xor", params: "ii", result: Int, run: runBitXor},

		{name: "length", params: "t", result: Int, run: func(m *machine, n *node) datum { return datum{i: int64(len(n.arg(m, 0).s))} }},
		{name: "contains", params: "tt", result: Bool, run: text2(strings.Contains)},
		{name: "startsWith", params: "tt", result: Bool, run: text2(strings.HasPrefix)},
		{name: "endsWith", params: "tt", result: Bool, run: text2(strings.HasSuffix)},
		{name: "number", params: "t", result: Float, run: runNumber, why: "a text that is not a number"},

		{name: "quality", params: "p", result: Text, run: runQuality},
		{name: "good", params: "p", result: Bool, run: func(m *machine, n *node) datum { return boolean(m.look(n).Quality == device.Good) }},
		{name: "bad", params: "p", result: Bool, run: func(m *machine, n *node) datum { return boolean(unusable(m.look(n))) }},
		{name: "fallback", params: "ps", run: runFallback, why: tooLarge},
		{name: "timestamp", params: "p", result: Int, run: func(m *machine, n *node) datum { return millis(m, m.look(n).Server) }},
		{name: "sourceTimestamp", params: "p", result: Int, run: func(m *machine, n *node) datum { return millis(m, m.look(n).Source) }},
		{name: "age", params: "p", result: Float, run: runAge},
		{name: "now", result: Int, run: func(m *machine, _ *node) datum { return datum{i: m.now.UnixMilli()} }},

		{name: "previous", params: "p", run: runPrevious, why: tooLarge},
		{name: "changed", params: "p", result: Bool, run: runChanged},
		{name: "delta", params: "p", result: Float, run: runDelta},
		{name: "rate", params: "p", result: Float, run: runRate},
		{name: "increase", params: "pf", result: Float, run: runIncrease, why: "a counter's modulus is not above 0"},
	}
}

const tooLarge = "a whole number beyond 64 bits"

// functionNamed finds a function.
func functionNamed(name string) (function, bool) {
	for _, f := range functions() {
		if f.name == name {
			return f, true
		}
	}
	return function{}, false
}

func functionNames() []string {
	var out []string
	for _, f := range functions() {
		out = append(out, f.name)
	}
	return append(out, "if")
}

func float1(fn func(float64) float64) func(*machine, *node) datum {
	return func(m *machine, n *node) datum { return datum{f: fn(n.arg(m, 0).f)} }
}

func text2(fn func(a, b string) bool) func(*machine, *node) datum {
	return func(m *machine, n *node) datum { return boolean(fn(n.arg(m, 0).s, n.arg(m, 1).s)) }
}

func runAbs(m *machine, n *node) datum { return datum{f: math.Abs(n.arg(m, 0).f)} }

func runAbsInt(m *machine, n *node) datum {
	x := n.arg(m, 0)
	if x.i == math.MinInt64 {
		return m.fail(n.why)
	}
	return datum{i: max(x.i, -x.i)}
}

// less orders two numbers of the node's type; NaN is above all numbers, so that it is not hidden by min and never lost by max.
func (n *node) less(a, b datum) bool {
	if n.typ == Int {
		return a.i < b.i
	}
	return a.f < b.f || math.IsNaN(b.f) && !math.IsNaN(a.f)
}

func runMin(m *machine, n *node) datum {
	out := n.arg(m, 0)
	for i := 1; i < len(n.args); i++ {
		if x := n.arg(m, i); n.less(x, out) {
			out = x
		}
	}
	return out
}

func runMax(m *machine, n *node) datum {
	out := n.arg(m, 0)
	for i := 1; i < len(n.args); i++ {
		if x := n.arg(m, i); n.less(out, x) {
			out = x
		}
	}
	return out
}

func runClamp(m *machine, n *node) datum {
	x, low, high := n.arg(m, 0), n.arg(m, 1), n.arg(m, 2)
	switch {
	case n.less(x, low):
		return low
	case n.less(high, x):
		return high
	default:
		return x
	}
}

// runScale maps a range onto another: scale(current, 4, 20, 0, 100).
func runScale(m *machine, n *node) datum {
	x, a, b, c, d := n.arg(m, 0).f, n.arg(m, 1).f, n.arg(m, 2).f, n.arg(m, 3).f, n.arg(m, 4).f
	if a == b {
		return m.fail(n.why)
	}
	return datum{f: c + (x-a)*(d-c)/(b-a)}
}

func runInt(m *machine, n *node) datum {
	f := math.Round(n.arg(m, 0).f)
	if !(math.Abs(f) < 1<<63) {
		return m.fail(n.why)
	}
	return datum{i: int64(f)}
}

func runBit(m *machine, n *node) datum {
	x, at := n.arg(m, 0).i, n.arg(m, 1).i
	if at < 0 || at > 63 {
		return m.fail(n.why)
	}
	return datum{i: int64(uint64(x) >> uint(at) & 1)}
}

// runBits cuts bits out: bits(word, 4, 3) are bits 4, 5 and 6 as a number.
func runBits(m *machine, n *node) datum {
	x, from, count := n.arg(m, 0).i, n.arg(m, 1).i, n.arg(m, 2).i
	if from < 0 || from > 63 || count < 1 || count > 63 || from+count > 64 {
		return m.fail(n.why)
	}
	return datum{i: int64(uint64(x) >> uint(from) & (1<<uint(count) - 1))}
}

func runNumber(m *machine, n *node) datum {
	f, err := strconv.ParseFloat(strings.TrimSpace(n.arg(m, 0).s), 64)
	if err != nil {
		return m.fail(n.why)
	}
	return datum{f: f}
}

// look returns a reading without letting its quality count for the result.
func (m *machine) look(n *node) device.Value {
	c := &m.cells[n.slot]
	if !c.seen {
		m.wait()
	}
	if c.value.Server.After(m.server) {
		m.server = c.value.Server
	}
	return c.value
}

func runQuality(m *machine, n *node) datum { return datum{s: m.look(n).Quality.String()} }

func millis(m *machine, t time.Time) datum {
	if t.IsZero() {
		return m.wait()
	}
	return datum{i: t.UnixMilli()}
}

func runAge(m *machine, n *node) datum {
	at := m.look(n).Server
	if at.IsZero() {
		return m.wait()
	}
	return datum{f: max(0, m.now.Sub(at).Seconds())}
}

// runFallback returns a property's value, or the second argument while the property is bad.
func runFallback(m *machine, n *node) datum {
	v := m.look(n)
	if unusable(v) {
		return n.arg(m, 0)
	}
	m.touch(n, v)
	return m.take(n, v)
}

// both returns the last two usable readings. Their quality counts, and a first reading has to wait for the second.
func (m *machine) both(n *node) (now, before device.Value, ok bool) {
	now, ok = m.use(n)
	if !ok {
		return now, before, false
	}
	before = m.cells[n.slot].previous
	if before.Kind() == device.KindNone {
		m.wait()
		return now, before, false
	}
	return now, before, true
}

func runPrevious(m *machine, n *node) datum {
	_, before, ok := m.both(n)
	if !ok {
		return datum{}
	}
	return m.take(n, before)
}

func runChanged(m *machine, n *node) datum {
	now, before, ok := m.both(n)
	return boolean(ok && !now.Same(before))
}

// difference is exact for whole numbers, counters of 64 bits included.
func difference(now, before device.Value) float64 {
	ints := func(v device.Value) bool { return v.Kind() == device.KindInt || v.Kind() == device.KindUint }
	if ints(now) && ints(before) {
		return float64(int64(now.AsUint() - before.AsUint()))
	}
	return now.AsFloat() - before.AsFloat()
}

func runDelta(m *machine, n *node) datum {
	now, before, ok := m.both(n)
	if !ok {
		return datum{}
	}
	return datum{f: difference(now, before)}
}

// elapsed is the time between two readings: by the device's clock if it has one, else by the agent's.
func elapsed(now, before device.Value) float64 {
	if !now.Source.IsZero() && now.Source.After(before.Source) && !before.Source.IsZero() {
		return now.Source.Sub(before.Source).Seconds()
	}
	return now.Server.Sub(before.Server).Seconds()
}

func runRate(m *machine, n *node) datum {
	now, before, ok := m.both(n)
	if !ok {
		return datum{}
	}
	dt := elapsed(now, before)
	if dt <= 0 { // two readings at one instant, or a clock that was set back
		return m.wait()
	}
	return datum{f: difference(now, before) / dt}
}

// runIncrease is delta for a counter that starts again at 0 when it reaches the modulus.
func runIncrease(m *machine, n *node) datum {
	now, before, ok := m.both(n)
	modulus := n.arg(m, 0).f
	if !ok {
		return datum{}
	}
	if !(modulus > 0) {
		return m.fail(n.why)
	}
	d := math.Mod(difference(now, before), modulus)
	if d < 0 {
		d += modulus
	}
	return datum{f: d}
}
