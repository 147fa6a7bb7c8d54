package serial

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

// TestAPortThatClosesHasSentNothing: an exchange that was given up because its port closes is no success, whoever notices first.
func TestAPortThatClosesHasSentNothing(t *testing.T) {
	own, peer := linetest.Pair(serialline.Config{})
	defer peer.Close() //nolint:errcheck // a test's line
	p := newPort("k", "a port", func(context.Context, serialline.Tap) (serialline.Line, error) { return own, nil })
	p.close()
	s := newSession(New(), &config{timeout: 1})
	s.port = p
	if err := p.attempt(own, &exchange{ctx: t.Context(), session: s, data: []byte("write")}); !errors.Is(err, device.ErrClosed) {
		t.Errorf("the exchange ended with %v", err)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	why := errors.New("nobody waits")
	cancel(why)
	if err := p.attempt(own, &exchange{ctx: gone, session: s}); !errors.Is(err, why) {
		t.Errorf("the exchange ended with %v", err)
	}
}

// TestLineGetsOtherSettings: devices change one after the other; none is told that its own line is in use meanwhile.
func TestLineGetsOtherSettings(t *testing.T) {
	m := startMeter(t)
	m.set("a", "1")
	d := New()
	open := func(baud int) device.Session {
		s, err := d.Open(t.Context(), m.config("request", "01R a\\r", "baudRate", baud))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	points := devicetest.Compile(t, d, visitor(device.TypeInt, "pattern", "=(.)"))
	old := []device.Session{open(9600), open(9600)}
	for _, s := range old {
		if _, err := read(t, s, points); err != nil {
			t.Fatal(err)
		}
	}
	changed := open(19200)
	done := make(chan struct{})
	time.AfterFunc(handover/3, func() {
		defer close(done)
		for _, s := range old {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	if got, err := read(t, changed, points); err != nil || got[0] != "1" {
		t.Errorf("with the new settings: %q, %v", got, err)
	}
	<-done
	if err := changed.Close(); err != nil {
		t.Error(err)
	}
}
