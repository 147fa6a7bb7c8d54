package store

import (
	"testing"
	"time"
)

func TestNextEpoch(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	for _, c := range []struct {
		name    string
		known   uint64
		unknown int
		damaged bool
		now     time.Time
		want    uint64
	}{
		{"a restart counts on, whatever the clock says", 7, 0, false, now, 8},
		{"a header that cannot be read hides one", 7, 2, false, now, 10},
		{"damage may hide more", 7, 0, true, now, 1_800_000_000_000},
		{"the clock only ever raises it", 1_900_000_000_000, 0, true, now, 1_900_000_000_001},
		{"a new store, or one that was erased", 0, 0, false, now, 1_800_000_000_000},
		{"without a clock", 0, 0, false, time.Unix(-5, 0), 1},
	} {
		if got := nextEpoch(c.known, c.unknown, c.damaged, c.now); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
