package kubelet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// manyListener accepts on any number of ports with one goroutine: a listener of package net for each would cost a goroutine and about 8 KB,
// ten thousand times. It is a net.Listener.
type manyListener struct {
	addr  netip.Addr
	epoll int
	conns chan net.Conn
	done  chan struct{}
	loop  sync.WaitGroup

	mu     sync.Mutex
	open   map[int]int // port → file descriptor
	fds    map[int]bool
	closed bool
}

const (
	epollWait  = 500 // ms; how late Close is noticed
	epollBatch = 64
)

func listenMany(host string) (*manyListener, error) {
	addr := netip.IPv6Unspecified()
	if host != "" {
		var err error
		if addr, err = netip.ParseAddr(host); err != nil {
			return nil, fmt.Errorf("kubelet.listen: %q is no IP address, which kubelet.nodePorts needs: %w", host, err)
		}
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &manyListener{addr: addr.Unmap(), epoll: fd, conns: make(chan net.Conn), done: make(chan struct{}), open: map[int]int{}, fds: map[int]bool{}}
	l.loop.Go(l.run)
	return l, nil
}

// set opens and closes listeners until exactly these ports are open. The error joins what could not be opened.
func (l *manyListener) set(ports map[int]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	for port, fd := range l.open {
		if _, wanted := ports[port]; !wanted {
			_ = unix.Close(fd) // takes it out of the epoll set
			delete(l.open, port)
			delete(l.fds, fd)
		}
	}
	var errs []error
	for port := range ports {
		if _, has := l.open[port]; has {
			continue
		}
		fd, err := l.listen(port)
		if err != nil {
			if len(errs) < 5 {
				errs = append(errs, fmt.Errorf("port %d: %w", port, err))
			}
			continue
		}
		l.open[port], l.fds[fd] = fd, true
	}
	return errors.Join(errs...)
}

func (l *manyListener) listen(port int) (fd int, err error) {
	family := unix.AF_INET6
	var at unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: l.addr.As16()}
	if l.addr.Is4() {
		family, at = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: l.addr.As4()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil { // IPv4 as well
			return 0, err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, at); err != nil {
		return 0, err
	}
	if err := unix.Listen(fd, portBacklog); err != nil {
		return 0, err
	}
	return fd, unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (l *manyListener) run() {
	events := make([]unix.EpollEvent, epollBatch)
	for {
		n, err := unix.EpollWait(l.epoll, events, epollWait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		select {
		case <-l.done:
			return
		default:
		}
		for _, e := range events[:max(n, 0)] {
			l.accept(int(e.Fd))
		}
	}
}

// accept takes one connection; what is left is told of again.
func (l *manyListener) accept(fd int) {
	l.mu.Lock()
	ours := l.fds[fd]
	var c int
	err := unix.EAGAIN
	if ours {
		var e error
		c, _, e = unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if e == nil {
			err = 0
		}
		if errors.Is(e, unix.EMFILE) || errors.Is(e, unix.ENFILE) {
			l.mu.Unlock()
			time.Sleep(50 * time.Millisecond) // as net/http does: it would be told of the same at once
			return
		}
	}
	l.mu.Unlock()
	if err != 0 {
		return
	}
	f := os.NewFile(uintptr(c), "kubelet")
	conn, ferr := net.FileConn(f)
	_ = f.Close()
	if ferr != nil {
		return
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true})
	}
	select {
	case l.conns <- conn:
	case <-l.done:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (l *manyListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *manyListener) Addr() net.Addr { return &net.TCPAddr{IP: l.addr.AsSlice()} }

// Close implements net.Listener. It may be called again.
func (l *manyListener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.done)
	l.mu.Unlock()
	l.loop.Wait()
	for _, fd := range l.open {
		_ = unix.Close(fd)
	}
	return unix.Close(l.epoll)
}
