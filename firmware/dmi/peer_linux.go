package dmi

import (
	"context"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// peer is the process at the other end of a socket, as the kernel saw it when it connected or listened (SO_PEERCRED of unix(7)).
type peer struct {
	uid, gid uint32
	known    bool
}

func peerOf(c net.Conn) peer {
	var p peer
	if l, ok := c.(*countedConn); ok {
		c = l.Conn
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return p
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return p
	}
	_ = raw.Control(func(fd uintptr) { // an unknown peer is nobody
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p = peer{cred.Uid, cred.Gid, true}
		}
	})
	return p
}

type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

func callerOf(ctx context.Context) peer {
	p, _ := ctx.Value(peerKey{}).(peer)
	return p
}

// admits tells whether a process may use the socket: root, the agent's own user, and who is configured.
func (s *Service) admits(p peer) bool {
	return p.known && (p.uid == 0 || p.uid == s.owner || slices.Contains(s.opt.UIDs, p.uid) || slices.Contains(s.opt.GIDs, p.gid))
}
