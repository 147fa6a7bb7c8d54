package opcualean

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

// Counters are what all servers of a process have done so far.
type Counters struct{ Requests, Read, Published, Items int64 }

// Process is servers in a process of their own, so that its processor time can be told from that of who asks them.
type Process struct {
	*process.Process
	Addrs   []string
	control string
}

// Start runs `PATH opcua-server`, which must call Main, with n servers on loopback.
func Start(ctx context.Context, path, log string, n int) (*Process, error) {
	p := &Process{}
	for range n + 1 {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("a port for the OPC UA server: %w", err)
		}
		p.Addrs = append(p.Addrs, ln.Addr().String())
		defer ln.Close() // all at the end, so that no port is given out twice
	}
	p.control, p.Addrs = p.Addrs[n], p.Addrs[:n]
	var err error
	p.Process, err = process.Start(process.Spec{Name: "opcua-server", Path: path, Log: log, Args: []string{
		"opcua-server", "-listen", strings.Join(p.Addrs, ","), "-control", p.control,
	}})
	return p, err
}

// Ready waits until the process answers.
func (p *Process) Ready(ctx context.Context) error {
	return process.WaitReady(ctx, p.Process, "the OPC UA servers answer", nil, func(ctx context.Context) error {
		_, err := p.Counters(ctx)
		return err
	})
}

// Counters asks for the counters.
func (p *Process) Counters(ctx context.Context) (c Counters, err error) {
	u := url.URL{Scheme: "http", Host: p.control, Path: "/counters"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return c, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, fmt.Errorf("ask the OPC UA servers: %w", err)
	}
	defer resp.Body.Close()
	return c, json.NewDecoder(resp.Body).Decode(&c)
}

// Main is the process: it serves until ctx ends.
func Main(ctx context.Context, args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet("opcua-server", flag.ContinueOnError)
	fs.SetOutput(stderr)
	listen := fs.String("listen", "127.0.0.1:4840", "comma-separated `addresses`")
	control := fs.String("control", "127.0.0.1:4841", "`address` of counters, over HTTP")
	if err := fs.Parse(args); err != nil {
		return err
	}
	s := &server{}
	addrs := strings.Split(*listen, ",")
	ended := make(chan error, len(addrs)+1)
	for _, addr := range addrs {
		ln, err := bind(ctx, addr)
		if err != nil {
			return err
		}
		defer ln.Close()
		go func() { ended <- s.serve(ln) }()
	}
	ln, err := bind(ctx, *control)
	if err != nil {
		return err
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.counters()) // whoever asked is gone if it fails
	})}
	defer srv.Close() //nolint:errcheck // the process ends
	go func() { ended <- srv.Serve(ln) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return fmt.Errorf("serve: %w", err)
		case now := <-tick.C:
			s.tick(now)
		}
	}
}

// bind listens at an address that its finder may not have let go yet.
func bind(ctx context.Context, addr string) (net.Listener, error) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return ln, errors.Join(err, ctx.Err())
		}
	}
}
