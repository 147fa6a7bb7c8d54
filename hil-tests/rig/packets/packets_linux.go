// Package packets counts what a TCP port costs on the wire, headers of IP and TCP included.
//
//	c, err := packets.Count("127.0.0.1:7443") // needs root (CAP_NET_RAW)
//	…
//	bytes, packets := c.Stop()
//
// It looks at the loopback interface and at IPv4 only. A Counter's Stop is called once, from any goroutine.
//
// Testing: the unit test parses packets; the end-to-end and fleet suites count real ones.
package packets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Counter counts what passes the loopback interface to or from one TCP port.
type Counter struct {
	fd             int
	port           uint16
	mu             sync.Mutex
	bytes, packets int64
	done           chan struct{}
	quit           chan struct{}
}

// Count starts to count the IPv4 packets of address (host:port) with a packet socket; it needs root.
func Count(address string) (*Counter, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port of %s: %w", address, err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	protocol := htons(unix.ETH_P_ALL) // outgoing packets are only shown to sockets for all protocols
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: lo.Index})
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200000})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on the loopback interface: %w", err), unix.Close(fd))
	}
	c := &Counter{fd: fd, port: uint16(number), done: make(chan struct{}), quit: make(chan struct{})}
	go c.run()
	return c, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func (c *Counter) run() {
	defer close(c.done)
	buf := make([]byte, 128) // headers are enough: the length is in the IP header
	for {
		select {
		case <-c.quit:
			return
		default:
		}
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		if err != nil {
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		// Each packet on loopback is seen twice: leaving and arriving.
		if l, ok := from.(*unix.SockaddrLinklayer); !ok || l.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		if size, ok := tcpSize(buf[:n], c.port); ok {
			c.mu.Lock()
			c.bytes += int64(size)
			c.packets++
			c.mu.Unlock()
		}
	}
}

// tcpSize returns the total length of an IPv4 packet (RFC 791) if it is TCP and either port is port.
func tcpSize(b []byte, port uint16) (int, bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != unix.IPPROTO_TCP {
		return 0, false
	}
	header := int(b[0]&0xf) * 4
	if len(b) < header+4 {
		return 0, false
	}
	if binary.BigEndian.Uint16(b[header:]) != port && binary.BigEndian.Uint16(b[header+2:]) != port {
		return 0, false
	}
	return int(binary.BigEndian.Uint16(b[2:])), true
}

// Stop ends the counting and returns what was seen.
func (c *Counter) Stop() (bytes, packets int64) {
	close(c.quit)
	select {
	case <-c.done:
	case <-time.After(5 * time.Second):
	}
	_ = unix.Close(c.fd)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes, c.packets
}
