package budget

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestManual holds the table of docs/boards.md to what is derived.
func TestManual(t *testing.T) {
	b, err := os.ReadFile("../../docs/boards.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, mi := range []int64{36, 66, 128, 256, 512} {
		l := Of(mi << 20)
		row := fmt.Sprintf("| %dMi | %dMi | %d | %d | %d |\n", mi, l.Heap>>20, l.HistoryQueue, l.Pulls, l.Requests)
		if !strings.Contains(string(b), row) {
			t.Errorf("docs/boards.md lacks %s", row)
		}
	}
}

func TestOf(t *testing.T) {
	last := Limits{}
	for mi := int64(36); mi <= 4096; mi++ {
		l := Of(mi << 20)
		if l.Heap > l.Budget || l.Heap < last.Heap || l.HistoryQueue < last.HistoryQueue || l.Pulls < last.Pulls || l.Requests < last.Requests {
			t.Fatalf("%d Mi: %+v after %+v: more memory must not allow less", mi, l, last)
		}
		last = l
	}
	if l := Of(0); l.Heap < 1<<60 || l.Budget != 0 || l.Pulls < last.Pulls {
		t.Errorf("no budget: %+v", l)
	}
	if l := ForHeap(64 << 20); l.Heap != 64<<20 || l.Budget != 82<<20 {
		t.Errorf("limit 64Mi: %+v", l)
	}
	for heap, shed := range map[int64]int64{24 << 20: 48 << 20, 47 << 20: 48 << 20, 200 << 20: 200 << 20} {
		if l := ForHeap(heap); l.Heap != heap || l.Shed != shed {
			t.Errorf("memory.limit %d: %+v, shares should be of %d", heap, l, shed)
		}
	}
	if l := Of(36 << 20); l.Shed != l.Heap {
		t.Errorf("a small board: %+v", l)
	}
	if l := ForHeap(0); l != Of(0) {
		t.Errorf("no limit: %+v", l)
	}
}
