package grpcwire

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	contentType   = "application/grpc"
	headerStatus  = "Grpc-Status"
	headerMessage = "Grpc-Message"
	headerTimeout = "Grpc-Timeout"
)

// NewTransport returns a transport that speaks unencrypted HTTP/2 on what dial connects to. It sends no keep-alive pings: grpc-go servers answer
// pings that come more often than every 5 minutes by closing the connection. Its buffers bound what a peer can make us hold before an
// answer is read.
func NewTransport(dial func(ctx context.Context) (net.Conn, error)) *http.Transport {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:          &h2c,
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     256 << 10,
		},
	}
}

// NewRequest returns a call of path, as "/package.Service/Method", whose framed messages are body. The context's deadline goes with it.
func NewRequest(ctx context.Context, path, userAgent string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+path, body)
	if err != nil {
		return nil, err
	}
	r.Header = http.Header{
		"Content-Type": {contentType},
		"Te":           {"trailers"},
		"User-Agent":   {userAgent},
	}
	if deadline, ok := ctx.Deadline(); ok {
		r.Header[headerTimeout] = []string{timeoutHeader(time.Until(deadline))}
	}
	return r, nil
}
