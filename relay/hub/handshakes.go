package hub

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A TLS handshake costs a relay 1 ms of processor time or two. When ten thousand gateways come at once and all handshakes get on a
// little, all of them take as long as all together, the agents give up before they are done, come again, and nobody ever gets
// in. So as many are worked at as there are processors, those that have begun go first, and what has waited for longer than
// an agent does is given up without being begun. Nobody holds a place while the network is waited for: a connection that sends
// nothing, or a byte at a time, takes none.
const (
	helloPatience = 10 * time.Second // from accepting a connection to beginning with it
	helloWaiting  = 1024             // connections that wait to begin; others wait in the kernel, where they cost less
)

// turnstile lets few pass at a time, those who have passed before first. Safe for concurrent use.
type turnstile struct {
	mu    sync.Mutex
	free  int
	again []chan struct{} // who passed before
	first []chan struct{}
	room  sync.Cond // of mu: first has become shorter
}

func newTurnstile() *turnstile {
	t := &turnstile{free: max(2, runtime.GOMAXPROCS(0))}
	t.room.L = &t.mu
	return t
}

// enter waits for a place, which leave gives back.
func (t *turnstile) enter(again bool) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return
	}
	c := make(chan struct{})
	if again {
		t.again = append(t.again, c)
	} else {
		t.first = append(t.first, c)
	}
	t.mu.Unlock()
	<-c
}

func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.again) > 0:
		close(t.again[0])
		t.again = t.again[1:]
	case len(t.first) > 0:
		close(t.first[0])
		t.first = t.first[1:]
		t.room.Broadcast()
	default:
		t.free++
	}
}

// waiting returns how many wait to begin.
func (t *turnstile) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.first)
}

// awaitRoom waits until fewer than helloWaiting wait to begin.
func (t *turnstile) awaitRoom() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.first) >= helloWaiting {
		t.room.Wait()
	}
}

// arrivalsListener is a listener below TLS whose connections pass the turnstile until settle is called.
type arrivalsListener struct {
	net.Listener
	turnstile *turnstile
	late      func()
}

// Accept implements net.Listener.
func (l *arrivalsListener) Accept() (net.Conn, error) {
	l.turnstile.awaitRoom()
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &arrival{Conn: c, l: l, since: time.Now()}, nil
}

// arrival is one connection. What follows on a Read costs processor time, and the next Read waits for the network; so it holds
// a place from one to the next.
type arrival struct {
	net.Conn
	l       *arrivalsListener
	since   time.Time
	begun   bool // for the goroutine that reads
	settled atomic.Bool
	holds   atomic.Bool
}

// Read implements net.Conn.
func (c *arrival) Read(p []byte) (int, error) {
	if c.settled.Load() {
		return c.Conn.Read(p)
	}
	c.leave()
	n, err := c.Conn.Read(p)
	if err != nil || n == 0 || c.settled.Load() {
		return n, err
	}
	c.l.turnstile.enter(c.begun)
	c.holds.Store(true)
	if c.settled.Load() { // closed meanwhile
		c.leave()
		return n, err
	}
	if !c.begun && time.Since(c.since) > helloPatience {
		c.leave()
		c.l.late()
		return 0, os.ErrDeadlineExceeded
	}
	c.begun = true
	return n, err
}

// Close implements net.Conn.
func (c *arrival) Close() error {
	c.settle()
	return c.Conn.Close()
}

func (c *arrival) leave() {
	if c.holds.CompareAndSwap(true, false) {
		c.l.turnstile.leave()
	}
}

// settle ends what the connection has to do with the turnstile: its request is handled, or it is gone.
func (c *arrival) settle() {
	c.settled.Store(true)
	c.leave()
}

type arrivalKey struct{}

// withArrival lets settleRequest find the connection of a request.
func withArrival(ctx context.Context, conn net.Conn) context.Context {
	if t, ok := conn.(*tls.Conn); ok {
		if a, ok := t.NetConn().(*arrival); ok {
			return context.WithValue(ctx, arrivalKey{}, a)
		}
	}
	return ctx
}

func settleRequest(r *http.Request) {
	if a, ok := r.Context().Value(arrivalKey{}).(*arrival); ok {
		a.settle()
	}
}
