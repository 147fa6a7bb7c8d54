package powercut

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// fact is one thing that the workload did: begun when so many operations had been recorded, and promised to be on the disk from the operation
// until on (0: never promised by itself).
type fact struct {
	N            int // rises with each fact of a key
	Begun, Until int
}

// ledger is what was written and what was promised. Its methods may be called concurrently.
type ledger struct {
	Window   int               // lazy values, and values of the history, between two flushes
	Durable  map[string][]fact // by key: commits that were waited for
	Lazy     map[string][]fact // by key; Until is the flush that covered it
	Desired  []fact
	Appended []fact // the outbox' items; N is the item's number
	Acked    []fact // the outbox up to N
	Values   []value
	Cursor   []fact // of the history's target; N is the sequence

	mu sync.Mutex
}

// value is one value of the history; its sequence is its index and one.
type value struct {
	fact
	Device string
	Text   string
}

func newLedger(window int) *ledger {
	return &ledger{Window: window, Durable: map[string][]fact{}, Lazy: map[string][]fact{}}
}

// flushed notes that everything which was begun before an operation is on the disk from another one on.
func (l *ledger) flushed(before, until int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cover := func(facts []fact) {
		for i := len(facts) - 1; i >= 0 && facts[i].Until == 0; i-- {
			if facts[i].Begun <= before {
				facts[i].Until = until
			}
		}
	}
	for _, facts := range l.Lazy {
		cover(facts)
	}
	cover(l.Acked)
	cover(l.Cursor)
	for i := len(l.Values) - 1; i >= 0 && l.Values[i].Until == 0; i-- {
		if l.Values[i].Begun <= before {
			l.Values[i].Until = until
		}
	}
}

// span returns the least that must be there after a cut, and the most that can be.
func span(facts []fact, at int) (least, most int) {
	for _, f := range facts {
		if f.Begun <= at {
			most = max(most, f.N)
		}
		if f.Until > 0 && f.Until <= at {
			least = max(least, f.N)
		}
	}
	return least, most
}

// quietKept is how many of its newest values each quiet device must still have: the ring never presses it.
const quietKept = 40

// check compares what a child found with what was promised when the power went after the first at operations. loss is how many lazy values that were
// given before are not there, which is within the promise.
func (l *ledger) check(at int, f found) (wrong []string, loss int) {
	defer func() {
		if loss > l.Window {
			wrong = append(wrong, fmt.Sprintf("%d values are lost, a window has %d", loss, l.Window))
		}
	}()
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, e := range f.Findings {
		if !strings.HasPrefix(e, "TornTail ") {
			bad("the store found damage: %s", e)
		}
	}
	if f.Error != "" {
		bad("%s", f.Error)
	}
	if f.Damaged != 0 {
		bad("the history found damage in %d places", f.Damaged)
	}
	l.checkKeys(at, l.Durable, f.Durable, "durable", bad)
	loss = l.checkKeys(at, l.Lazy, f.Lazy, "lazy", bad)
	if least, most := span(l.Desired, at); f.Desired < least || f.Desired > most {
		bad("the desired object has version %d, promised are %d to %d", f.Desired, least, most)
	}
	l.checkOutbox(at, f.Outbox, bad)
	loss = max(loss, l.checkValues(at, f.Values, bad))
	if least, most := span(l.Cursor, at); f.Cursor < least || f.Cursor > most {
		bad("the target's cursor is %d, promised are %d to %d", f.Cursor, least, most)
	}
	return wrong, loss
}

func (l *ledger) checkKeys(at int, facts map[string][]fact, got map[string]int, what string, bad func(string, ...any)) (loss int) {
	for key, list := range facts {
		least, most := span(list, at)
		n := got[key]
		if n < least || n > most {
			bad("%s key %s has value %d, promised are %d to %d", what, key, n, least, most)
		}
		for _, f := range list {
			if f.Begun <= at && f.N > n {
				loss++
			}
		}
	}
	for key := range got {
		if len(facts[key]) == 0 {
			bad("%s key %s was never written", what, key)
		}
	}
	return loss
}

// checkOutbox wants a run of items without holes: from behind what was acknowledged to what was appended.
func (l *ledger) checkOutbox(at int, items []int, bad func(string, ...any)) {
	ackedLeast, ackedMost := span(l.Acked, at)
	least, most := span(l.Appended, at)
	for i, n := range items {
		if i > 0 && n != items[i-1]+1 {
			bad("the outbox goes from item %d to %d", items[i-1], n)
		}
	}
	first, last := ackedMost+1, ackedMost
	if len(items) > 0 {
		first, last = items[0], items[len(items)-1]
	}
	if first <= ackedLeast || first > ackedMost+1 || last > most || max(last, ackedMost) < least {
		bad("the outbox has items %d to %d; acknowledged were %d to %d, appended %d to %d", first, last, ackedLeast, ackedMost, least, most)
	}
}

// checkValues wants of each device its newest values without holes, and each as it was recorded.
func (l *ledger) checkValues(at int, got []foundValue, bad func(string, ...any)) (loss int) {
	least, most := 0, 0
	last := map[string]int{}    // the newest of each device that must be there
	given := map[string][]int{} // sequences by device
	for i, v := range l.Values {
		if v.Begun > at {
			break
		}
		most = i + 1
		given[v.Device] = append(given[v.Device], i+1)
		if v.Until > 0 && v.Until <= at {
			least, last[v.Device] = i+1, i+1
		}
	}
	have := map[string][]int{}
	before := 0
	for _, g := range got {
		if g.Seq <= before || g.Seq > most {
			bad("the history has value %d after %d; %d were recorded", g.Seq, before, most)
			return 0
		}
		before = g.Seq
		if v := l.Values[g.Seq-1]; v.Device != g.Device || v.Text != g.Text {
			bad("value %d of the history is %.20q of %s, recorded was %.20q of %s", g.Seq, g.Text, g.Device, v.Text, v.Device)
		}
		have[g.Device] = append(have[g.Device], g.Seq)
	}
	for device, seqs := range given {
		must := 0
		for _, s := range seqs {
			if s <= last[device] {
				must++
			}
		}
		there := have[device]
		if len(there) == 0 {
			if must > 0 {
				bad("the history has nothing of %s, %d values were promised", device, must)
			}
			continue
		}
		i := slices.Index(seqs, there[0])
		if i < 0 || i+len(there) > len(seqs) || !slices.Equal(seqs[i:i+len(there)], there) {
			bad("the history of %s has a hole", device)
		}
		if newest := there[len(there)-1]; newest < last[device] {
			bad("the history of %s ends at value %d, %d was promised", device, newest, last[device])
		}
		if device != noisy && len(there) < min(must, quietKept) {
			bad("the history of %s has %d values, %d were promised", device, len(there), min(must, quietKept))
		}
	}
	if most > before && least <= before {
		loss = most - before
	}
	return loss
}

// text is a value that says which one it is, of a realistic length.
func text(n, size int) string {
	s := strconv.Itoa(n) + " "
	return s + strings.Repeat("x", max(0, size-len(s)))
}

// number reads what text wrote; -1 if it is not whole.
func number(s string, size int) int {
	head, rest, ok := strings.Cut(s, " ")
	n, err := strconv.Atoi(head)
	if !ok || err != nil || len(s) != max(size, len(head)+1) || strings.Trim(rest, "x") != "" {
		return -1
	}
	return n
}
