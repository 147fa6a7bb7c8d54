package hub_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/hub"
)

// TestABrokenWriteIsTold: a session that ends while it is written to is counted, and stands in the log, like any other.
func TestABrokenWriteIsTold(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	src := &manySource{rev: 100, objects: map[wire.Key]wire.Object{}}
	w.opts.Source = src
	for i := range 300 {
		k := wire.NewKey(wire.KindConfigMap, "default", fmt.Sprintf("c%03d", i), "")
		src.refs = append(src.refs, k)
		src.put(k, largeBody(t, i))
	}
	src.put(wire.NewKey(wire.KindPod, "default", "a", "ua"), linktest.Body(1, src.refs...))
	l, err := hub.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	h := hub.New(w.opts)
	go func() { served <- h.Serve(ctx, smallBuffers{l}) }()
	w.address = l.Addr().String()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	ws := w.stoppedAgent(t)
	eventually(t, "the relay waits for the agent", func() bool {
		before := src.asked.Load()
		time.Sleep(300 * time.Millisecond)
		return before > 20 && src.asked.Load() == before
	})
	_ = ws.CloseNow() // with what it has not read: its kernel resets the connection
	eventually(t, "the end is counted", func() bool { return w.counter(`skerry_relay_session_closes_total{reason="connection"}`) == 1 })
}
