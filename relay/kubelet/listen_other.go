//go:build !linux

package kubelet

import (
	"errors"
	"net"
)

// manyListener needs epoll.
type manyListener struct{ net.Listener }

func listenMany(string) (*manyListener, error) {
	return nil, errors.New("kubelet.nodePorts needs Linux")
}

func (*manyListener) set(map[int]string) error { return errors.ErrUnsupported }
