package opcua

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestReadsWaitOnceForWhatIsQueued: all reads after a resumption have one deadline together, and a subscription that ends keeps nobody waiting.
func TestReadsWaitOnceForWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s subscriptions
		s.init()
		sub := &serverSub{id: 1, flushed: make(chan struct{})}
		s.byID[1], s.resumed = sub, time.Now()
		waited := func() time.Duration {
			began := time.Now()
			s.awaitQueued(t.Context(), nil, queuedWithin)
			return time.Since(began)
		}
		time.Sleep(queuedWithin / 4)
		if got := waited(); got != queuedWithin*3/4 {
			t.Errorf("the first read waited %v", got)
		}
		if got := waited(); got != 0 {
			t.Errorf("the second read waited %v", got)
		}
		s.resumed = time.Now()
		time.AfterFunc(time.Millisecond, func() { s.forget(sub) })
		if got := waited(); got != time.Millisecond {
			t.Errorf("a read waited %v for a subscription that ended after 1ms", got)
		}
	})
}
