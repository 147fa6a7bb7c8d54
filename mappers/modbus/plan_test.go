package modbus

import (
	"math/rand/v2"
	"testing"
)

var standard = limits{registers: maxReadRegisters, bits: maxReadBits}

func TestPlanTable(t *testing.T) {
	h := func(addr, width uint16) span { return span{holdingRegisters, addr, width} }
	for name, c := range map[string]struct {
		spans []span
		lim   limits
		want  int // requests
	}{
		"nothing":                 {nil, standard, 0},
		"neighbours":              {[]span{h(0, 2), h(2, 1), h(3, 4)}, standard, 1},
		"unordered and equal":     {[]span{h(3, 4), h(0, 2), h(2, 1), h(0, 2)}, standard, 1},
		"overlapping":             {[]span{h(0, 4), h(2, 1), h(1, 4)}, standard, 1},
		"a hole":                  {[]span{h(0, 1), h(2, 1)}, standard, 2},
		"a hole within the gap":   {[]span{h(0, 1), h(2, 1)}, limits{registers: 125, bits: 2000, gap: 1}, 1},
		"tables are not mixed":    {[]span{h(0, 1), {inputRegisters, 1, 1}, {coils, 1, 1}}, standard, 3},
		"125 registers":           {[]span{h(0, 100), h(100, 25)}, standard, 1},
		"126 registers":           {[]span{h(0, 100), h(100, 26)}, standard, 2},
		"a device that serves 10": {[]span{h(0, 4), h(4, 4), h(8, 4)}, limits{registers: 10, bits: 2000}, 2},
		"the end of the table":    {[]span{h(65534, 2), h(65533, 1)}, standard, 1},
	} {
		if got := plan(c.spans, c.lim, nil); len(got) != c.want {
			t.Errorf("%s: %d requests, want %d: %+v", name, len(got), c.want, got)
		}
	}
	alone := plan([]span{h(0, 1), h(1, 1), h(2, 1), h(3, 1)}, standard, func(i int) bool { return i == 1 })
	if len(alone) != 3 {
		t.Errorf("a point that must be read alone: %+v", alone)
	}
}

// TestPlanProperties: every point is served by exactly one request that covers it, and no request exceeds the limits,
// joins points across more than the gap, or could be joined with the next one.
func TestPlanProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 5000 {
		lim := limits{registers: 1 + r.IntN(125), bits: 1 + r.IntN(2000), gap: r.IntN(10)}
		spans := make([]span, r.IntN(60))
		for i := range spans {
			s := span{table: table(r.IntN(4)), width: 1}
			if !s.table.bits() {
				s.width = uint16(min(1<<r.IntN(3), lim.registers))
			}
			s.addr = uint16(r.IntN(300))
			if r.IntN(10) == 0 {
				s.addr = uint16(65536 - int(s.width))
			}
			spans[i] = s
		}
		blocks := plan(spans, lim, nil)
		served := make([]int, len(spans))
		for bi, b := range blocks {
			covered := make(map[int]bool)
			for _, m := range b.members {
				served[m]++
				s := spans[m]
				if s.table != b.table || s.addr < b.addr || s.end() > b.end() {
					t.Fatalf("block %+v does not cover %+v", b, s)
				}
				for a := int(s.addr); a < s.end(); a++ {
					covered[a] = true
				}
			}
			if int(b.width) > lim.of(b.table) || b.end() > 65536 {
				t.Fatalf("block %+v exceeds %+v", b, lim)
			}
			hole := 0
			for a := int(b.addr); a < b.end(); a++ {
				if covered[a] {
					hole = 0
				} else if hole++; hole > lim.gap {
					t.Fatalf("block %+v reads a hole beyond the gap of %d", b, lim.gap)
				}
			}
			if bi > 0 {
				p := blocks[bi-1]
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
