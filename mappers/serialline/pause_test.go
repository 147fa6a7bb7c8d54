package serialline_test

import (
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

// TestPause: it is never too short, and a port that is closed is not waited for.
func TestPause(t *testing.T) {
	pty := linetest.OpenPTY(t)
	p, err := serialline.Open(serialline.Config{Path: pty.Path})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{-time.Second, 0, 100 * time.Microsecond, 1750 * time.Microsecond, 7 * time.Millisecond} {
		until := time.Now().Add(d)
		if p.Pause(until); time.Now().Before(until) {
			t.Errorf("%v ended early", d)
		}
	}
	done := make(chan struct{})
	go func() {
		p.Pause(time.Now().Add(time.Hour))
		close(done)
	}()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
}
