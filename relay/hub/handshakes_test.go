package hub

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are made by dial.
type pipes struct{ waiting chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) { return <-p.waiting, nil }
func (p *pipes) Close() error              { return nil }
func (p *pipes) Addr() net.Addr            { return &net.TCPAddr{} }

// TestHandshakesTakeTurns: 500 connections want a second of processor time each, in two pieces, 300 send nothing at all. At most two
// are worked at at a time, whoever has begun goes on before others begin, the silent ones hold no place, and who has waited
// too long is not begun with.
func TestHandshakesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late atomic.Int64
		src := &pipes{waiting: make(chan net.Conn, 800)}
		l := &arrivalsListener{Listener: src, turnstile: newTurnstile(), late: func() { late.Add(1) }}
		l.turnstile.free = 2
		var mu sync.Mutex
		working, most, begun, mostBegun, done := 0, 0, 0, 0, 0
		work := func() {
			mu.Lock()
			working++
			most = max(most, working)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			working--
			mu.Unlock()
		}
		handshake := func(c net.Conn) {
			defer c.Close()
			b := make([]byte, 1)
			if _, err := c.Read(b); err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			begun++
			mostBegun = max(mostBegun, begun-done)
			mu.Unlock()
			work()
			if _, err := c.Read(b); err != nil {
				t.Error(err)
			}
			work()
			mu.Lock()
			done++
			mu.Unlock()
		}
		var all sync.WaitGroup
		var silent []net.Conn
		for range 300 {
			_, theirs := net.Pipe()
			src.waiting <- theirs
			c, _ := l.Accept()
			silent = append(silent, c)
			all.Go(func() {
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Error("a silent connection said something")
				}
			})
		}
		for range 500 {
			ours, theirs := net.Pipe()
			src.waiting <- theirs
			c, _ := l.Accept()
			all.Go(func() { handshake(c) })
			all.Go(func() {
				_, _ = ours.Write([]byte("h"))
				_, _ = ours.Write([]byte("f"))
			})
		}
		time.Sleep(time.Minute)
		mu.Lock()
		// 10 s with two at a time and 0.2 s for each.
		if most != 2 || done < 95 || done > 105 || done+int(late.Load()) != 500 || mostBegun > 6 {
			t.Errorf("%d were done, %d came too late, %d were worked at at once, %d had begun", done, late.Load(), most, mostBegun)
		}
		mu.Unlock()
		for _, c := range silent {
			c.Close()
		}
		all.Wait()
		if l.turnstile.free != 2 || l.turnstile.waiting() != 0 {
			t.Errorf("%d places are free in the end, %d wait", l.turnstile.free, l.turnstile.waiting())
		}
	})
}

// TestAcceptWaits: while many wait to begin, no more are accepted.
func TestAcceptWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTurnstile()
		ts.free = 0
		for range helloWaiting {
			go ts.enter(false)
		}
		synctest.Wait()
		accepted := false
		go func() { ts.awaitRoom(); accepted = true }()
		synctest.Wait()
		if accepted {
			t.Error("one more was accepted")
		}
		ts.leave()
		synctest.Wait()
		if !accepted {
			t.Error("none was accepted although one has begun")
		}
		for range helloWaiting {
			ts.leave()
		}
	})
}
