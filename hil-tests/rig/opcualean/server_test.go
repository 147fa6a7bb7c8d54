package opcualean

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/opcua"
)

// TestDriver: the driver reads, subscribes to more items than fit one message, and is told of every change of each.
func TestDriver(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{}
	served := make(chan error, 1)
	go func() { served <- s.serve(ln) }()
	t.Cleanup(func() {
		_ = ln.Close()
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	const n = 12000
	d := opcua.New(opcua.Options{})
	session := devicetest.Open(t, d, device.Config{Device: "ns/plc", Protocol: devicetest.Data("url", "opc.tcp://"+ln.Addr().String())})
	cfgs := make([]device.PointConfig, n)
	for i := range cfgs {
		cfgs[i] = device.PointConfig{Property: "p", Type: device.TypeDouble, Visitor: devicetest.Data("nodeID", fmt.Sprintf("ns=1;i=%d", i))}
	}
	points := devicetest.Compile(t, d, cfgs...)
	values := make([]device.Value, n)
	if err := session.Read(t.Context(), points, values); err != nil || values[n-1].Text() != fmt.Sprint(n-1) {
		t.Fatalf("%v: %+v", err, values[n-1])
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	told := make(map[int]int)
	full := make(chan struct{})
	go func() {
		for s.counters().Items < n && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		for ctx.Err() == nil {
			s.tick(time.Now())
			time.Sleep(100 * time.Millisecond)
		}
	}()
	time.AfterFunc(30*time.Second, cancel)
	err = session.(device.Subscriber).Subscribe(ctx, points, func(i int, v device.Value) {
		mu.Lock()
		defer mu.Unlock()
		if v.Quality == device.Good {
			told[i]++
		}
		if i == n-1 && told[i] > 3 {
			select {
			case <-full:
			default:
				close(full)
				cancel()
			}
		}
	})
	select {
	case <-full:
	default:
		t.Fatalf("%d of %d items were heard of (%v); the server has %+v", len(told), n, err, s.counters())
	}
	if len(told) != n {
		t.Errorf("%d of %d items were heard of", len(told), n)
	}
}
