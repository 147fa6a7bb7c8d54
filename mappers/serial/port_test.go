package serial

import (
	"context"
	"errors"
	"testing"

	"github.com/skerry/skerry/mappers/device"
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
