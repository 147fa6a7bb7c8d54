package dmi

import (
	"context"
	"net"
	"os"
	"sync"

	"github.com/skerry/skerry/firmware/localhttp"
)

// maxConns bounds connections of all mappers. KubeEdge's framework makes one for each report.
const maxConns = 128

// listen opens the socket. Only root and the agent's user may connect (mode 0600), unless others are configured: then the file lets everybody
// connect, and the kernel's word for who it is decides before a byte is read.
func (s *Service) listen(ctx context.Context) (net.Listener, error) {
	l, err := localhttp.Listen(ctx, s.opt.Socket)
	if err != nil {
		return nil, err
	}
	if len(s.opt.UIDs)+len(s.opt.GIDs) > 0 {
		if err := os.Chmod(s.opt.Socket, 0o666); err != nil {
			_ = l.Close()
			return nil, err
		}
	}
	return &guardedListener{Listener: l, service: s, free: make(chan struct{}, maxConns)}, nil
}

// guardedListener hands on connections of those who may use the socket, and so many at a time.
type guardedListener struct {
	net.Listener
	service *Service
	free    chan struct{}
}

func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if p := peerOf(c); !l.service.admits(p) {
			l.service.log.Warn("a process that may not use the DMI socket was turned away: allow its user or group with dmi.uids or dmi.gids if it is a mapper", "uid", p.uid, "gid", p.gid)
			_ = c.Close()
			continue
		}
		select {
		case l.free <- struct{}{}:
			return &countedConn{Conn: c, release: func() { <-l.free }}, nil
		default:
			l.service.log.Warn("too many connections on the DMI socket; one was turned away", "most", maxConns)
			_ = c.Close()
		}
	}
}

type countedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *countedConn) Close() error {
	defer c.once.Do(c.release)
	return c.Conn.Close()
}
