package modbusslave

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
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

// Counters are what a Slave has done so far.
type Counters struct{ Requests, Read int64 }

// Process is a Slave in a process of its own, so that its processor time can be told from that of who asks it.
type Process struct {
	*process.Process
	Addrs   []string // at each of which it answers as all units
	control string
}

// Start runs `PATH modbus-slave`, which must call Main, with n listeners on loopback.
func Start(ctx context.Context, path, log string, n int, o Options) (*Process, error) {
	p := &Process{}
	for range n + 1 {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("a port for the slave: %w", err)
		}
		p.Addrs = append(p.Addrs, ln.Addr().String())
		defer ln.Close() // all at the end, so that no port is given out twice
	}
	p.control, p.Addrs = p.Addrs[n], p.Addrs[:n]
	return p, p.start(ctx, path, log, o)
}

func (p *Process) start(ctx context.Context, path, log string, o Options) error {
	// The listeners of Start are still open: SO_REUSEADDR does not help, so the child tries again until they are gone.
	var err error
	p.Process, err = process.Start(process.Spec{Name: "modbus-slave", Path: path, Log: log, Args: []string{
		"modbus-slave", "-listen", strings.Join(p.Addrs, ","), "-control", p.control,
		"-change", strconv.FormatFloat(o.Change, 'g', -1, 64), "-changing", strconv.Itoa(o.Changing),
	}})
	return err
}

// Ready waits until the process answers.
func (p *Process) Ready(ctx context.Context) error {
	return process.WaitReady(ctx, p.Process, "the Modbus slave answers", nil, func(ctx context.Context) error {
		_, err := p.Counters(ctx)
		return err
	})
}

// Counters asks for the counters.
func (p *Process) Counters(ctx context.Context) (c Counters, err error) {
	return c, p.get(ctx, "/counters", &c)
}

// TakeWrites asks for the writes since the last call.
func (p *Process) TakeWrites(ctx context.Context) (w []Write, err error) {
	return w, p.get(ctx, "/writes", &w)
}

func (p *Process) get(ctx context.Context, path string, into any) error {
	u := url.URL{Scheme: "http", Host: p.control, Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the Modbus slave: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("the Modbus slave's answer: %w", err)
	}
	return nil
}

// Main is the process: it serves until ctx ends.
func Main(ctx context.Context, args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet("modbus-slave", flag.ContinueOnError)
	fs.SetOutput(stderr)
	listen := fs.String("listen", "127.0.0.1:5020", "comma-separated `addresses`")
	control := fs.String("control", "127.0.0.1:5021", "`address` of counters and writes, over HTTP")
	var o Options
	fs.Float64Var(&o.Change, "change", 0, "share of the values that change each second")
	fs.IntVar(&o.Changing, "changing", 2000, "how many registers hold values that change")
	if err := fs.Parse(args); err != nil {
		return err
	}
	s := New(o)
	addrs := strings.Split(*listen, ",")
	ended := make(chan error, len(addrs)+1)
	var open []io.Closer
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for _, addr := range addrs {
		ln, err := bind(ctx, addr)
		if err != nil {
			return err
		}
		open = append(open, ln)
		go func() { ended <- s.Serve(ln) }()
	}
	ln, err := bind(ctx, *control)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	open = append(open, srv)
	go func() { ended <- srv.Serve(ln) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return fmt.Errorf("serve: %w", err)
		case <-tick.C:
			s.Tick()
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

func (s *Slave) handler() http.Handler {
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) } // who asked is gone
	mux.HandleFunc("/counters", func(w http.ResponseWriter, _ *http.Request) {
		requests, read := s.Requests()
		reply(w, Counters{requests, read})
	})
	mux.HandleFunc("/writes", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.TakeWrites()) })
	return mux
}
