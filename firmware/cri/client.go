package cri

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/grpcwire"
)

const (
	defaultTimeout     = 2 * time.Minute // the kubelet's runtimeRequestTimeout
	defaultMaxResponse = 16 << 20        // the kubelet's, and the limit of ExecSync's output in CRI
	dialTimeout        = 5 * time.Second
	keptBuffer         = 64 << 10 // larger response buffers are not kept for the next call
)

// Options configure a Client.
type Options struct {
	// Socket is the path of the runtime's CRI socket; a "unix://" prefix is accepted.
	Socket string
	// Timeout limits calls whose context has no deadline. Default 2 minutes.
	Timeout time.Duration
	// MaxResponse limits an encoded response, in bytes. Default 16 MiB.
	MaxResponse int
}

// Client calls one runtime. It is safe for concurrent use. Its owner closes it.
type Client struct {
	socket      string
	timeout     time.Duration
	maxResponse int
	transport   *http.Transport
	buffers     sync.Pool // of *[]byte, for responses
}

// New returns a client of the runtime at o.Socket. It does not connect: the first call does.
func New(o Options) *Client {
	c := &Client{
		socket:      strings.TrimPrefix(o.Socket, "unix://"),
		timeout:     cmp.Or(o.Timeout, defaultTimeout),
		maxResponse: cmp.Or(o.MaxResponse, defaultMaxResponse),
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	c.transport = grpcwire.NewTransport(func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "unix", c.socket) })
	return c
}

// Socket returns the path of the runtime's socket.
func (c *Client) Socket() string { return c.socket }

// Close closes the idle connection; calls under way end by their contexts. The client may be used again.
func (c *Client) Close() { c.transport.CloseIdleConnections() }
