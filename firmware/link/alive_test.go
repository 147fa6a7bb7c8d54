package link_test

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
)

// TestCutOffIsAlive lets a link fail for an hour: it is no fault that no relay answers, and the loop says every 15 s that it goes round.
func TestCutOffIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last atomic.Int64
		begin := time.Now()
		cl := link.New(link.Options{
			Addresses: []string{"relay:443"}, Node: "gw", Desired: linktest.NewStore(), MaxBackoff: time.Hour,
			TLS:   func() (*tls.Config, error) { return nil, errors.New("not joined yet") },
			Alive: func() { last.Store(int64(time.Since(begin))) },
		})
		stop := start(t, cl)
		for range 360 {
			time.Sleep(10 * time.Second)
			if silent := time.Since(begin) - time.Duration(last.Load()); silent > 15*time.Second {
				t.Fatalf("no sign of life for %v", silent)
			}
		}
		stop()
	})
}
