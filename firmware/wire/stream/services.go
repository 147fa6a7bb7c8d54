package stream

import (
	"fmt"
	"net"
	"sync"

	"github.com/skerry/skerry/firmware/wire"
)

// backlog is how many streams may wait to be accepted by a listener.
const backlog = 64

// Services are the listeners that take the streams of all sessions of one side. Safe for concurrent use; the zero value has none.
type Services struct {
	mu     sync.Mutex
	byName map[string]*listener
}

// Listen takes streams to a service until the listener is closed; those that wait to be accepted then are reset. There is one
// listener for a service at a time.
func (v *Services) Listen(service string) (net.Listener, error) {
	if err := wire.CheckService(service); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.byName[service] != nil {
		return nil, fmt.Errorf("service %q has a listener already", service)
	}
	if v.byName == nil {
		v.byName = map[string]*listener{}
	}
	l := &listener{of: v, service: service, ready: make(chan *Conn, backlog), done: make(chan struct{})}
	v.byName[service] = l
	return l, nil
}

func noSuchService(service string) string {
	return fmt.Sprintf("service %q is not offered here", service)
}

// serves is Config.Serves.
func (v *Services) serves(service string) (refusal string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.byName[service]
	if l == nil {
		return noSuchService(service)
	}
	if len(l.ready) == cap(l.ready) {
		return fmt.Sprintf("service %q does not get on: %d streams wait for it", service, len(l.ready))
	}
	return ""
}

// deliver gives a stream to its listener.
func (v *Services) deliver(c *Conn) {
	v.mu.Lock()
	l := v.byName[c.st.Service()]
	taken := false
	if l != nil {
		select {
		case l.ready <- c:
			taken = true
		default:
		}
	}
	v.mu.Unlock()
	if !taken {
		c.Reset(fmt.Sprintf("service %q does not take streams any more", c.st.Service()))
		_ = c.Close()
	}
}

// listener implements net.Listener.
type listener struct {
	of      *Services
	service string
	ready   chan *Conn
	done    chan struct{}
	once    sync.Once
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.of.mu.Lock()
		delete(l.of.byName, l.service)
		l.of.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.ready:
				c.Reset(fmt.Sprintf("service %q has ended", l.service))
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return Addr("service " + l.service) }

// Addr is the address of one end of a stream: the peer's name, a node's or a relay's.
type Addr string

// Network implements net.Addr.
func (Addr) Network() string { return "skerry" }

// String implements net.Addr.
func (a Addr) String() string { return string(a) }
