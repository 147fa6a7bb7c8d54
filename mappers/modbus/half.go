package modbus

import "math"

// float32FromHalf widens an IEEE 754 binary16, which it does exactly.
func float32FromHalf(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := uint32(h>>10&0x1F), uint32(h&0x3FF)
	switch exp {
	case 0: // zero or subnormal: frac * 2^-24
		f := float32(math.Ldexp(float64(frac), -24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1F:
		return math.Float32frombits(sign | 0x7F800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// halfFromFloat rounds to the nearest binary16, ties to even; false if x is too large for one, or not a number.
func halfFromFloat(x float64) (uint16, bool) {
	if math.IsNaN(x) || math.Abs(x) >= 65520 { // what rounds to 65536 and more
		return 0, false
	}
	sign := uint16(0)
	if math.Signbit(x) {
		sign = 0x8000
	}
	a := math.Abs(x)
	if a < 1.0/(1<<14) { // subnormal: steps of 2^-24; rounding up to 0x400 gives the least normal number, as it must
		return sign | uint16(math.RoundToEven(math.Ldexp(a, 24))), true
	}
	frac, exp := math.Frexp(a) // a = frac * 2^exp, frac in [0.5, 1)
	m := uint16(math.RoundToEven(math.Ldexp(frac, 11)))
	return sign | (uint16(exp+13)<<10 + m), true
}
