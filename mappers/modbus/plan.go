package modbus

import (
	"cmp"
	"slices"
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
	members []int // indices into the spans given to plan
}

// limits bound what plan puts into one request.
type limits struct {
	registers, bits int // at most so many in one request
	gap             int // at most so many unwanted ones between two points
}

// plan groups spans into as few requests as the limits allow: neighbours of one table that touch, overlap or have at
// most limits.gap between them are read together. Every span is a member of exactly one block and lies within it. alone
// tells which spans must not be grouped (nil: none). Blocks are ordered by table and address.
func plan(spans []span, lim limits, alone func(i int) bool) []block {
	order := make([]int, len(spans))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(spans[a].table, spans[b].table), cmp.Compare(spans[a].addr, spans[b].addr), cmp.Compare(spans[a].width, spans[b].width))
	})
	var out []block
	open := false // the last block may still grow
	for _, i := range order {
		s := spans[i]
		single := alone != nil && alone(i)
		if open && !single {
			last := &out[len(out)-1]
			end := max(last.end(), s.end())
			if last.table == s.table && int(s.addr) <= last.end()+lim.gap && end-int(last.addr) <= lim.of(s.table) {
				last.width = uint16(end - int(last.addr))
				last.members = append(last.members, i)
				continue
			}
		}
		out = append(out, block{span: s, members: []int{i}})
		open = !single
	}
	return out
}

func (l limits) of(t table) int {
	if t.bits() {
		return l.bits
	}
	return l.registers
}
