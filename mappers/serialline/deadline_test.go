package serialline

import (
	"testing"
	"time"
)

// TestDeadlineKeepsTheMonotonicClock: a time that has only the wall clock's reading would move when the gateway's clock is set.
func TestDeadlineKeepsTheMonotonicClock(t *testing.T) {
	now := time.Now()
	d := deadline{from: now}
	if !d.get().IsZero() || d.passed(now.Add(time.Hour)) {
		t.Error("a line has a deadline before one was set")
	}
	end := now.Add(time.Second)
	d.set(end)
	if got := d.get(); got == got.Round(0) || end.Sub(got).Abs() > 1 { //nolint:staticcheck // == compares the monotonic reading, too
		t.Errorf("the deadline is %v of %v", got, end)
	}
	if d.passed(end.Add(-time.Millisecond)) || !d.passed(end.Add(time.Millisecond)) {
		t.Error("the deadline passes at another time")
	}
	if d.set(now); !d.passed(now.Add(time.Nanosecond)) {
		t.Error("now is no deadline")
	}
	if d.set(time.Unix(1, 0)); !d.passed(now) {
		t.Error("an interruption does not interrupt")
	}
	if d.set(time.Time{}); d.passed(now.Add(time.Hour)) || !d.get().IsZero() {
		t.Error("a deadline that was taken away still ends waits")
	}
}
