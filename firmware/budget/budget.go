package budget

import "math"

// Mapped is what the agent takes beside Go's memory: the pages of its binary that are in use, and what the kernel accounts to it. It is the
// same on every board.
const Mapped = 12 << 20

// Limits are what a budget allows.
type Limits struct {
	// Budget is what the agent may take in all (PSS), in bytes; 0: there is none.
	Budget int64
	// Heap is GOMEMLIMIT; math.MaxInt64 without a budget.
	Heap int64
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
		return Limits{Heap: math.MaxInt64, HistoryQueue: mostQueue, Pulls: 4, Requests: mostRequests}
	}
	l := Limits{
		Budget: bytes, Heap: max(bytes-Mapped, leastHeap),
		HistoryQueue: int(clamp(bytes>>20*256, leastQueue, mostQueue)),
		Requests:     int(clamp(bytes>>20, 16, mostRequests)),
		Pulls:        1,
	}
	switch {
	case bytes >= 256<<20:
		l.Pulls = 4
	case bytes >= 64<<20:
		l.Pulls = 2
	}
	return l
}

// ForHeap is Of for somebody who sets GOMEMLIMIT and not the budget; 0: no limit.
func ForHeap(bytes int64) Limits {
	if bytes <= 0 {
		return Of(0)
	}
	return Of(bytes + Mapped)
}

const (
	leastHeap    = 24 << 20 // with less the agent would only collect garbage
	leastQueue   = 4 << 10
	mostQueue    = 64 << 10
	mostRequests = 128
)

func clamp(v, least, most int64) int64 { return min(max(v, least), most) }
