package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"
)

// serveHealth answers grpc.health.v1.Health/Check over HTTP/2 without TLS (github.com/grpc/grpc/blob/master/doc/health-checking.md): SERVING, and
// NOT_SERVING of the service "ill". The two messages are small enough to be written as bytes.
func serveHealth(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /grpc.health.v1.Health/Check", func(w http.ResponseWriter, req *http.Request) {
		request, err := io.ReadAll(io.LimitReader(req.Body, 1<<10))
		if err != nil {
			return
		}
		status := byte(1) // SERVING
		if bytes.HasSuffix(request, []byte("\x0a\x03ill")) {
			status = 2
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.Write([]byte{0, 0, 0, 0, 2, 8, status}) //nolint:errcheck // the peer has gone
		w.Header().Set("Grpc-Status", "0")
	})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Addr: ":" + envOr("PORT", "8080"), Handler: mux, Protocols: protocols, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}
