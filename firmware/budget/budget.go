package budget

import "math"

// Mapped is what the agent takes beside Go's memory: the pages of its binary that are in use, and what the kernel accounts to it. It is the
// same on every board. In an ARMv7 machine they are 15.3 MB of a binary of 16.2 MB, and 2 MB that Go does not count (make bench-memory-arm).
const Mapped = 18 << 20

// Limits are what a budget allows.
type Limits struct {
	// Budget is what the agent may take in all (PSS), in bytes; 0: there is none.
	Budget int64
	// Heap is GOMEMLIMIT; math.MaxInt64 without a budget.
	Heap int64
	// Shed is what the levels of Shedder are shares of: Heap, or what somebody who has set a small Heap takes for enough.
	Shed int64
	// HistoryQueue is how many device values may wait for the disk.
	HistoryQueue int
	// Pulls is how many images are pulled at a time.
	Pulls int
	// Requests is how many requests of kubectl, metrics-server and the like are answered at a time.
	Requests int
}

// Of derives the limits of a budget in bytes; 0: none.
func Of(bytes int64) Limits {
	if bytes <= 0 {
		return Limits{Heap: math.MaxInt64, Shed: math.MaxInt64, HistoryQueue: mostQueue, Pulls: 4, Requests: mostRequests}
	}
	l := Limits{
		Budget: bytes, Heap: max(bytes-Mapped, leastHeap),
		HistoryQueue: int(clamp(bytes>>20*256, leastQueue, mostQueue)),
		Requests:     int(clamp(bytes>>20, 16, mostRequests)),
		Pulls:        1,
	}
	l.Shed = l.Heap
	switch {
	case bytes >= 256<<20:
		l.Pulls = 4
	case bytes >= 64<<20:
		l.Pulls = 2
	}
	return l
}

// ForHeap is Of for somebody who sets GOMEMLIMIT and not the budget; 0: no limit. GOMEMLIMIT is soft: a small one asks for more garbage collection and not
// for less work, so use below what the boards that are built in give the agent, leastShed, is no reason to shed anything. A budget is what the board has.
func ForHeap(bytes int64) Limits {
	if bytes <= 0 {
		return Of(0)
	}
	l := Of(bytes + Mapped)
	l.Shed = max(l.Heap, leastShed)
	return l
}

const (
	leastShed    = 48 << 20
	leastHeap    = 18 << 20 // with less the agent would only collect garbage
	leastQueue   = 4 << 10
	mostQueue    = 64 << 10
	mostRequests = 128
)

func clamp(v, least, most int64) int64 { return min(max(v, least), most) }
