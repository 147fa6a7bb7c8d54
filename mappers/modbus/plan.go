package modbus

import (
	"cmp"
	"slices"
	"time"
)

// span is where one point lives.
type span struct {
	table table
	addr  uint16
	width uint16 // bits or registers, at least 1
}

func (s span) end() int { return int(s.addr) + int(s.width) }

// block is one read request and the points that it serves.
type block struct {
	span
	members []int // indices into the spans given to plan, ordered by address
}

// limits bound what plan puts into one request.
type limits struct {
	registers, bits int  // at most so many in one request
	gap             int  // at most so many unwanted ones between two points
	single          bool // no two different spans in one request
}

func (l limits) of(t table) int {
	if t.bits() {
		return l.bits
	}
	return l.registers
}

// hole is what a device has shown not to serve.
type hole struct {
	table    table
	from, to int // [from, to); empty: a boundary that a request must not cross
	refused  *exception
	until    time.Time
}

// spoils tells that a request for [from, to) of a table would touch the hole.
func (h hole) spoils(t table, from, to int) bool {
	return h.table == t && (h.from < to && from < h.to || h.from == h.to && from < h.from && h.from < to)
}

// layoutPlan is what plan makes of spans.
type layoutPlan struct {
	blocks  []block
	refused map[int]*exception // spans that the device has refused, and that are not asked for
	wide    []int              // spans that do not fit into one request
}

// plan groups spans into as few requests as the limits allow: neighbours of one table that touch, overlap or have at
// most limits.gap between them are read together. Every span is a member of exactly one block and lies within it, unless
// it is too wide for a request or has been refused. No request for more than one span touches a hole. Blocks are ordered by
// table and address.
func plan(spans []span, lim limits, holes []hole) layoutPlan {
	order := make([]int, 0, len(spans))
	out := layoutPlan{refused: map[int]*exception{}}
	for i, s := range spans {
		switch ex := refusal(s, holes); {
		case int(s.width) > lim.of(s.table):
			out.wide = append(out.wide, i)
		case ex != nil:
			out.refused[i] = ex
		default:
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(spans[a].table, spans[b].table), cmp.Compare(spans[a].addr, spans[b].addr), cmp.Compare(spans[a].width, spans[b].width))
	})
	for _, i := range order {
		if n := len(out.blocks); n > 0 && out.blocks[n-1].join(spans[i], lim, holes) {
			out.blocks[n-1].members = append(out.blocks[n-1].members, i)
			continue
		}
		out.blocks = append(out.blocks, block{span: spans[i], members: []int{i}})
	}
	return out
}

// join widens the block by a span, if that may be.
func (b *block) join(s span, lim limits, holes []hole) bool {
	if b.span == s {
		return true
	}
	end := max(b.end(), s.end())
	if lim.single || b.table != s.table || int(s.addr) > b.end()+lim.gap || end-int(b.addr) > lim.of(s.table) {
		return false
	}
	for _, h := range holes {
		if h.spoils(b.table, int(b.addr), end) {
			return false
		}
	}
	b.width = uint16(end - int(b.addr))
	return true
}

// refusal returns why a span is not asked for.
func refusal(s span, holes []hole) *exception {
	for _, h := range holes {
		if h.refused != nil && h.table == s.table && h.from == int(s.addr) && h.to == s.end() {
			return h.refused
		}
	}
	return nil
}

// halve splits a block of several spans where it is most likely to hold something that the device does not have: at its widest
// gap, or in the middle.
func (b block) halve(spans []span) (left, right block) {
	end, cut, widest := 0, 0, -1
	for k, m := range b.members {
		if s := spans[m]; k > 0 && s != spans[b.members[k-1]] {
			gap := max(int(s.addr)-end, 0)
			if gap > widest || gap == widest && abs(2*k-len(b.members)) < abs(2*cut-len(b.members)) {
				cut, widest = k, gap
			}
		}
		end = max(end, spans[m].end())
	}
	return blockOf(spans, b.members[:cut]), blockOf(spans, b.members[cut:])
}

func abs(n int) int { return max(n, -n) }

func blockOf(spans []span, members []int) block {
	b := block{span: spans[members[0]], members: members}
	for _, m := range members {
		b.width = uint16(max(b.end(), spans[m].end()) - int(b.addr))
	}
	return b
}

// uniform tells that a block has only one span.
func (b block) uniform(spans []span) bool {
	return !slices.ContainsFunc(b.members, func(m int) bool { return spans[m] != b.span })
}
