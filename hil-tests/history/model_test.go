package history

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// TestDoctoredHistoriesAreRejected: what must not happen is found, what may is not.
func TestDoctoredHistoriesAreRejected(t *testing.T) {
	const last = -1                                          // Rest
	history := func(steps ...[2]int) []porcupine.Operation { // write and the values that are seen after it
		r := NewRecorder()
		for _, s := range steps {
			switch {
			case s[0] == last:
				r.Rest()
			case s[0] > 0:
				r.Writes("writer", "r", s[0])
			}
			if s[1] > 0 {
				r.Sees("reader", "r", s[1])
			}
		}
		return r.Operations()
	}
	cases := []struct {
		name string
		ops  []porcupine.Operation
		fine bool
	}{
		{"every version", history([2]int{1, 1}, [2]int{2, 2}, [2]int{3, 3}, [2]int{last, 3}), true},
		{"versions left out", history([2]int{1, 1}, [2]int{2, 0}, [2]int{3, 0}, [2]int{last, 3}), true},
		{"versions that come late", history([2]int{1, 0}, [2]int{2, 1}, [2]int{3, 2}, [2]int{0, 3}, [2]int{last, 3}), true},
		{"an older version after a newer one", history([2]int{1, 0}, [2]int{2, 2}, [2]int{3, 1}, [2]int{last, 3}), false},
		{"a version that nobody wrote", history([2]int{1, 1}, [2]int{2, 7}, [2]int{last, 2}), false},
		{"a version before it was written", history([2]int{1, 2}, [2]int{2, 0}, [2]int{last, 2}), false},
		{"the last version does not arrive", history([2]int{1, 1}, [2]int{2, 2}, [2]int{3, 0}, [2]int{last, 2}), false},
	}
	for _, c := range cases {
		if got := porcupine.CheckOperations(Register(), c.ops); got != c.fine {
			t.Errorf("%s: accepted is %v, want %v", c.name, got, c.fine)
		}
	}
}
