package device

import (
	"errors"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	var b Backoff
	now := time.Unix(1e9, 0)
	if b.Blocked(now) != nil || b.Failing() || !b.RetryAt().IsZero() {
		t.Error("the zero Backoff has failed")
	}
	why := Unreachable("unit %d is mute", 7)
	if !errors.Is(why, ErrUnreachable) || why.Error() != "unit 7 is mute" {
		t.Errorf("%v", why)
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 10, 10, 10} {
		want *= time.Second
		b.Failed(now, why, time.Second, 10*time.Second)
		wait := b.RetryAt().Sub(now)
		if wait < want*3/4 || wait >= want*5/4 {
			t.Errorf("failure %d: tried again after %v, want %v give or take a quarter", i, wait, want)
		}
		if !errors.Is(b.Blocked(now.Add(wait-1)), why) || b.Blocked(now.Add(wait)) != nil || !b.Failing() {
			t.Errorf("failure %d: blocked before %v: %v, then: %v", i, wait, b.Blocked(now.Add(wait-1)), b.Blocked(now.Add(wait)))
		}
	}
	b.OK()
	if b.Blocked(now) != nil || b.Failing() {
		t.Error("still failing")
	}
}
