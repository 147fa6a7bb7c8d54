package serialline

import (
	"sync/atomic"
	"time"
)

// deadline is when a line's waits end. It is kept by the monotonic clock: a gateway's wall clock may be set while a line waits, by hours. Safe for
// concurrent use, and it takes no memory to set one.
type deadline struct {
	from time.Time // when the line was opened
	at   atomic.Int64
}

// set takes the end; the zero time means never.
func (d *deadline) set(t time.Time) {
	switch ns := int64(t.Sub(d.from)); {
	case t.IsZero():
		d.at.Store(0)
	default:
		d.at.Store(ns | 1) // never 0
	}
}

// get returns the end; zero means never.
func (d *deadline) get() time.Time {
	ns := d.at.Load()
	if ns == 0 {
		return time.Time{}
	}
	return d.from.Add(time.Duration(ns))
}

func (d *deadline) passed(now time.Time) bool {
	end := d.get()
	return !end.IsZero() && !now.Before(end)
}
