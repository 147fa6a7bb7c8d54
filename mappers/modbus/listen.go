package modbus

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// errNobody means that the gateway that should dial in has not done so.
var errNobody = errors.New("no gateway has connected to this address yet: check its settings (server address and port), and the firewall")

// acceptAgain is the pause after a connection that could not be accepted; closing may have to wait for it.
const acceptAgain = 200 * time.Millisecond

// listenOpener waits for a gateway that dials in. The newest connection counts: a gateway that dials again has lost the one
// before, even if nobody told us.
type listenOpener struct {
	addr string
	from netip.Prefix // who may connect; the zero prefix: anyone
	ln   net.Listener
	wg   sync.WaitGroup

	mu      sync.Mutex
	waiting net.Conn // accepted and not used yet
	used    net.Conn
	news    chan struct{}
}

func (o *listenOpener) name() string { return "the gateway that connects to " + o.addr }
func (o *listenOpener) stream() bool { return true }
func (o *listenOpener) closed(bool)  {}

// open waits for a connection. It listens from the first call on, so that a port that is taken is an error of reading, which
// heals by itself.
func (o *listenOpener) open(ctx context.Context) (line, error) {
	if o.ln == nil {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.addr)
		if err != nil {
			return nil, err
		}
		o.ln = ln
		o.wg.Go(func() { o.accept(ln) })
	}
	for {
		o.mu.Lock()
		conn := o.waiting
		o.used, o.waiting = conn, nil
		o.mu.Unlock()
		if conn != nil {
			return &tcpLine{Conn: conn}, nil
		}
		select {
		case <-o.news:
		case <-ctx.Done():
			return nil, errNobody
		}
	}
}

func (o *listenOpener) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // as when the agent has too many files open: that passes
			time.Sleep(acceptAgain)
			continue
		}
		if !o.allowed(conn.RemoteAddr()) {
			_ = conn.Close()
			continue
		}
		o.mu.Lock()
		for _, old := range []net.Conn{o.waiting, o.used} {
			if old != nil {
				_ = old.Close()
			}
		}
		o.waiting, o.used = conn, nil
		o.mu.Unlock()
		select {
		case o.news <- struct{}{}:
		default:
		}
	}
}

func (o *listenOpener) allowed(addr net.Addr) bool {
	a, err := netip.ParseAddrPort(addr.String())
	return err == nil && (!o.from.IsValid() || o.from.Contains(a.Addr().Unmap()))
}

func (o *listenOpener) close() {
	if o.ln != nil {
		_ = o.ln.Close()
	}
	o.wg.Wait()
	if o.waiting != nil {
		_ = o.waiting.Close()
	}
}
