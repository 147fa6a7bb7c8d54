package wire

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Unix(1_800_000_000, 0).Add(d) }
	var p Pace
	for i, c := range []struct {
		n    int
		at   time.Duration
		want bool
	}{
		{Stride, 0, false},                           // begins within the second
		{Stride - 1, 2 * time.Second, false},         // a byte is missing
		{1, 5 * time.Second, true},                   // here it is
		{3 * Stride, 5500 * time.Millisecond, false}, // told of half a second ago
		{Stride / 2, 7 * time.Second, false},
		{Stride, 8 * time.Second, true},
		{Stride / 2, 9 * time.Second, true}, // the halves make a whole
	} {
		if got := p.Got(c.n, at(c.at)); got != c.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if p.Missing() != Stride {
		t.Errorf("%d bytes are missing", p.Missing())
	}
	p = Pace{}
	for i := range 2 * 3600 { // a byte a second
		if p.Got(1, at(time.Duration(i)*time.Second)) {
			t.Fatalf("byte %d is a sign of life", i)
		}
	}
}
