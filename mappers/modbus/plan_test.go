package modbus

import (
	"math/rand/v2"
	"slices"
	"testing"
)

var standard = limits{registers: maxReadRegisters, bits: maxReadBits}

func TestPlanTable(t *testing.T) {
	h := func(addr, width uint16) span { return span{holdingRegisters, addr, width} }
	for name, c := range map[string]struct {
		spans []span
		lim   limits
		holes []hole
		want  int // requests
	}{
		"nothing":                   {nil, standard, nil, 0},
		"neighbours":                {[]span{h(0, 2), h(2, 1), h(3, 4)}, standard, nil, 1},
		"unordered and equal":       {[]span{h(3, 4), h(0, 2), h(2, 1), h(0, 2)}, standard, nil, 1},
		"overlapping":               {[]span{h(0, 4), h(2, 1), h(1, 4)}, standard, nil, 1},
		"a gap":                     {[]span{h(0, 1), h(2, 1)}, standard, nil, 2},
		"a gap within the budget":   {[]span{h(0, 1), h(2, 1)}, limits{registers: 125, bits: 2000, gap: 1}, nil, 1},
		"tables are not mixed":      {[]span{h(0, 1), {inputRegisters, 1, 1}, {coils, 1, 1}}, standard, nil, 3},
		"125 registers":             {[]span{h(0, 100), h(100, 25)}, standard, nil, 1},
		"126 registers":             {[]span{h(0, 100), h(100, 26)}, standard, nil, 2},
		"a device that serves 10":   {[]span{h(0, 4), h(4, 4), h(8, 4)}, limits{registers: 10, bits: 2000}, nil, 2},
		"the end of the table":      {[]span{h(65534, 2), h(65533, 1)}, standard, nil, 1},
		"one per request":           {[]span{h(0, 1), h(1, 1), h(1, 1), h(2, 1)}, limits{registers: 125, bits: 2000, single: true}, nil, 3},
		"a hole in the gap":         {[]span{h(0, 1), h(9, 1)}, limits{registers: 125, bits: 2000, gap: 20}, []hole{{table: holdingRegisters, from: 4, to: 5}}, 2},
		"a hole of another table":   {[]span{h(0, 1), h(9, 1)}, limits{registers: 125, bits: 2000, gap: 20}, []hole{{table: inputRegisters, from: 4, to: 5}}, 1},
		"a boundary":                {[]span{h(0, 1), h(1, 1), h(2, 1)}, standard, []hole{{table: holdingRegisters, from: 1, to: 1}}, 2},
		"a refused one":             {[]span{h(0, 1), h(1, 1), h(2, 1)}, standard, []hole{{table: holdingRegisters, from: 1, to: 2, refused: &exception{}}}, 2},
		"wider than a request":      {[]span{h(0, 4), h(8, 2)}, limits{registers: 2, bits: 2000}, nil, 1},
		"within what was refused":   {[]span{h(1, 1)}, standard, []hole{{table: holdingRegisters, from: 0, to: 2, refused: &exception{}}}, 1},
		"beyond what was refused":   {[]span{h(0, 4)}, standard, []hole{{table: holdingRegisters, from: 1, to: 2, refused: &exception{}}}, 1},
		"a gap of a refused length": {[]span{h(0, 1), h(3, 1), h(4, 2)}, limits{registers: 125, bits: 2000, gap: 2}, []hole{{table: holdingRegisters, from: 4, to: 6, refused: &exception{}}}, 1},
	} {
		if got := plan(c.spans, c.lim, c.holes); len(got.blocks) != c.want {
			t.Errorf("%s: %d requests, want %d: %+v", name, len(got.blocks), c.want, got)
		}
	}
}

func randomSpans(r *rand.Rand, n int) []span {
	spans := make([]span, n)
	for i := range spans {
		s := span{table: table(r.IntN(4)), width: 1}
		if !s.table.bits() {
			s.width = uint16(1 << r.IntN(4))
		}
		s.addr = uint16(r.IntN(300))
		if r.IntN(10) == 0 {
			s.addr = uint16(65536 - int(s.width))
		}
		spans[i] = s
	}
	return spans
}

// TestPlanProperties: every point is served by exactly one request that covers it, or is known not to be; no request exceeds the
// limits, joins points across more than the gap, or touches a hole.
func TestPlanProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 5000 {
		lim := limits{registers: 1 + r.IntN(125), bits: 1 + r.IntN(2000), gap: r.IntN(10), single: r.IntN(10) == 0}
		spans := randomSpans(r, r.IntN(60))
		var holes []hole
		for range r.IntN(6) {
			switch h := (hole{table: table(r.IntN(4)), from: r.IntN(300)}); {
			case len(spans) > 0 && r.IntN(2) == 0:
				s := spans[r.IntN(len(spans))]
				holes = append(holes, hole{table: s.table, from: int(s.addr), to: s.end(), refused: &exception{code: 2}})
			default:
				h.to = h.from + r.IntN(4)
				holes = append(holes, h)
			}
		}
		got := plan(spans, lim, holes)
		served := make([]int, len(spans))
		for i := range got.refused {
			served[i]++
			if !slices.ContainsFunc(holes, func(h hole) bool {
				return h.refused != nil && h.table == spans[i].table && h.from == int(spans[i].addr) && h.to == spans[i].end()
			}) {
				t.Fatalf("%+v is left out without a reason", spans[i])
			}
		}
		for _, i := range got.wide {
			served[i]++
			if int(spans[i].width) <= lim.of(spans[i].table) {
				t.Fatalf("%+v is not too wide", spans[i])
			}
		}
		for bi, b := range got.blocks {
			checkBlock(t, b, spans, lim, holes)
			for _, m := range b.members {
				served[m]++
			}
			if bi > 0 {
				p := got.blocks[bi-1]
				if p.table > b.table || p.table == b.table && p.addr > b.addr {
					t.Fatalf("blocks are out of order: %+v %+v", p, b)
				}
			}
		}
		for i, n := range served {
			if n != 1 {
				t.Fatalf("span %+v is served %d times", spans[i], n)
			}
		}
	}
}

func checkBlock(t *testing.T, b block, spans []span, lim limits, holes []hole) {
	t.Helper()
	covered := make(map[int]bool)
	for _, m := range b.members {
		s := spans[m]
		if s.table != b.table || s.addr < b.addr || s.end() > b.end() {
			t.Fatalf("block %+v does not cover %+v", b, s)
		}
		for a := int(s.addr); a < s.end(); a++ {
			covered[a] = true
		}
		for _, h := range holes {
			if h.refused != nil && h.table == s.table && h.from == int(s.addr) && h.to == s.end() {
				t.Fatalf("block %+v asks for %+v, which was refused", b, s)
			}
		}
	}
	if int(b.width) > lim.of(b.table) || b.end() > 65536 {
		t.Fatalf("block %+v exceeds %+v", b, lim)
	}
	uniform := b.uniform(spans)
	if lim.single && !uniform {
		t.Fatalf("block %+v joins, and must not", b)
	}
	gap := 0
	for a := int(b.addr); a < b.end(); a++ {
		if covered[a] {
			gap = 0
		} else if gap++; gap > lim.gap {
			t.Fatalf("block %+v reads a gap beyond %d", b, lim.gap)
		}
	}
	for _, h := range holes {
		touches := h.from < b.end() && int(b.addr) < h.to || h.from == h.to && int(b.addr) < h.from && h.from < b.end()
		if h.table == b.table && touches && !uniform {
			t.Fatalf("block %+v touches hole %+v", b, h)
		}
	}
}

// TestHalvesAreWhole: halving a block of different spans leaves two smaller blocks with the same members, so it ends.
func TestHalvesAreWhole(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 2000 {
		spans := randomSpans(r, 2+r.IntN(40))
		for _, b := range plan(spans, limits{registers: 125, bits: 2000, gap: r.IntN(20)}, nil).blocks {
			if b.uniform(spans) {
				continue
			}
			left, right := b.halve(spans)
			if !slices.Equal(append(slices.Clone(left.members), right.members...), b.members) || len(left.members) == 0 || len(right.members) == 0 {
				t.Fatalf("%+v into %+v and %+v", b, left, right)
			}
			for _, h := range []block{left, right} {
				checkBlock(t, h, spans, limits{registers: 125, bits: 2000, gap: 20}, nil)
				if h.addr < b.addr || h.end() > b.end() {
					t.Fatalf("%+v reaches out of %+v", h, b)
				}
			}
		}
	}
}
