package control

import (
	"context"
	"net"

	"golang.org/x/sys/unix"
)

// peerKey is the context key of a connection's peer.
type peerKey struct{}

// withPeer notes whose process is at the other end of a connection, as the kernel saw it when it connected (SO_PEERCRED of
// unix(7)). An unknown one is nobody.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uid := -1
	if l, ok := c.(*limitedConn); ok {
		c = l.Conn
	}
	if uc, ok := c.(*net.UnixConn); ok {
		if raw, err := uc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					uid = int(cred.Uid)
				}
			})
		}
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// peer returns the peer's user id, -1 if it is unknown.
func peer(ctx context.Context) int {
	if uid, ok := ctx.Value(peerKey{}).(int); ok {
		return uid
	}
	return -1
}
