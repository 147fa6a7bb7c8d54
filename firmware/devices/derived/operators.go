package derived

import (
	"math"
	"math/bits"
)

// The steps of operators. Each gets arguments of the types that the parser has checked.

func (n *node) arg(m *machine, i int) datum { return n.args[i].run(m, n.args[i]) }

func runToFloat(m *machine, n *node) datum { return datum{f: float64(n.arg(m, 0).i)} }

func runNot(m *machine, n *node) datum { return boolean(n.arg(m, 0).i == 0) }

func runAnd(m *machine, n *node) datum {
	if n.arg(m, 0).i == 0 {
		return datum{}
	}
	return n.arg(m, 1)
}

func runOr(m *machine, n *node) datum {
	if n.arg(m, 0).i != 0 {
		return datum{i: 1}
	}
	return n.arg(m, 1)
}

func runChoose(m *machine, n *node) datum {
	c := n.arg(m, 0)
	switch {
	case m.over:
		return datum{}
	case c.i != 0:
		return n.arg(m, 1)
	default:
		return n.arg(m, 2)
	}
}

func runNegateInt(m *machine, n *node) datum {
	x := n.arg(m, 0).i
	if x == math.MinInt64 {
		return m.fail(n.why)
	}
	return datum{i: -x}
}

func runNegate(m *machine, n *node) datum { return datum{f: -n.arg(m, 0).f} }

func runAddInt(m *machine, n *node) datum {
	a, b := n.arg(m, 0).i, n.arg(m, 1).i
	if c := a + b; (c > a) == (b > 0) {
		return datum{i: c}
	}
	return m.fail(n.why)
}

func runSubInt(m *machine, n *node) datum {
	a, b := n.arg(m, 0).i, n.arg(m, 1).i
	if c := a - b; (c < a) == (b > 0) {
		return datum{i: c}
	}
	return m.fail(n.why)
}

func runMulInt(m *machine, n *node) datum {
	a, b := n.arg(m, 0).i, n.arg(m, 1).i
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	negative := (a < 0) != (b < 0)
	switch {
	case hi == 0 && lo < 1<<63 || hi == 0 && lo == 1<<63 && negative:
		return datum{i: a * b}
	default:
		return m.fail(n.why)
	}
}

func magnitude(a int64) uint64 {
	if a < 0 {
		return -uint64(a)
	}
	return uint64(a)
}

func runModInt(m *machine, n *node) datum {
	a, b := n.arg(m, 0).i, n.arg(m, 1).i
	if b == 0 {
		return m.fail(n.why)
	}
	if b == -1 {
		return datum{}
	}
	return datum{i: a % b}
}

func runAdd(m *machine, n *node) datum { return datum{f: n.arg(m, 0).f + n.arg(m, 1).f} }
func runSub(m *machine, n *node) datum { return datum{f: n.arg(m, 0).f - n.arg(m, 1).f} }
func runMul(m *machine, n *node) datum { return datum{f: n.arg(m, 0).f * n.arg(m, 1).f} }

func runDiv(m *machine, n *node) datum {
	a, b := n.arg(m, 0).f, n.arg(m, 1).f
	if b == 0 {
		return m.fail(n.why)
	}
	return datum{f: a / b}
}

func runMod(m *machine, n *node) datum {
	a, b := n.arg(m, 0).f, n.arg(m, 1).f
	if b == 0 {
		return m.fail(n.why)
	}
	return datum{f: math.Mod(a, b)}
}

func runPow(m *machine, n *node) datum { return datum{f: math.Pow(n.arg(m, 0).f, n.arg(m, 1).f)} }

func runBitAnd(m *machine, n *node) datum { return datum{i: n.arg(m, 0).i & n.arg(m, 1).i} }
func runBitOr(m *machine, n *node) datum  { return datum{i: n.arg(m, 0).i | n.arg(m, 1).i} }
func runBitXor(m *machine, n *node) datum { return datum{i: n.arg(m, 0).i ^ n.arg(m, 1).i} }
func runBitNot(m *machine, n *node) datum { return datum{i: ^n.arg(m, 0).i} }

func runShiftLeft(m *machine, n *node) datum {
	a, by := n.arg(m, 0).i, n.arg(m, 1).i
	if by < 0 || by > 63 {
		return m.fail(n.why)
	}
	return datum{i: a << uint(by)}
}

func runShiftRight(m *machine, n *node) datum {
	a, by := n.arg(m, 0).i, n.arg(m, 1).i
	if by < 0 || by > 63 {
		return m.fail(n.why)
	}
	return datum{i: int64(uint64(a) >> uint(by))}
}

// compare orders two data of one type.
func (n *node) compare(m *machine) (order int, ordered bool) {
	a, b := n.arg(m, 0), n.arg(m, 1)
	switch n.args[0].typ {
	case Float:
		return cmp3(a.f, b.f), a.f == a.f && b.f == b.f //nolint:gocritic // NaN differs from itself
	case Text:
		return cmp3(a.s, b.s), true
	default:
		return cmp3(a.i, b.i), true
	}
}

func cmp3[T int64 | float64 | string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

func runEqual(m *machine, n *node) datum {
	c, ok := n.compare(m)
	return boolean(ok && c == 0)
}

func runDiffers(m *machine, n *node) datum {
	c, ok := n.compare(m)
	return boolean(!ok || c != 0)
}

func runLess(m *machine, n *node) datum {
	c, ok := n.compare(m)
	return boolean(ok && c < 0)
}

func runLessEqual(m *machine, n *node) datum {
	c, ok := n.compare(m)
	return boolean(ok && c <= 0)
}

func runMore(m *machine, n *node) datum {
	c, ok := n.compare(m)
	return boolean(ok && c > 0)
}

func runMoreEqual(m *machine, n *node) datum {
	c, ok := n.compare(m)
	return boolean(ok && c >= 0)
}
