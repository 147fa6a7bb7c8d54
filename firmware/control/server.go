package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/localhttp"
	"github.com/skerry/skerry/mappers/device"
)

// Devices is what runs the devices; the agent's *devices.Host implements it. All methods may be called concurrently.
type Devices interface {
	Status() []devices.DeviceState
	Has(namespace, name string) bool
	// Read asks the device now; no properties means all.
	Read(ctx context.Context, namespace, name string, properties []string) ([]devices.PropertyState, error)
	Write(ctx context.Context, namespace, name, property, text string) (device.WriteResult, error)
	// Watch calls fn, which does not block, for every change until stop is called.
	Watch(fn func(namespace, name, property string, v device.Value)) (stop func())
}

// Explorer is what tells more of a device than its values.
type Explorer interface {
	Call(ctx context.Context, namespace, name, method string, args map[string]string) (map[string]string, error)
	Browse(ctx context.Context, namespace, name, node string, limit int) ([]device.BrowseEntry, error)
	Plan(namespace, name string) ([]devices.CyclePlan, error)
}

// Kept is one value of the history.
type Kept struct {
	Property string
	Value    device.Value
}

// Options are what a Server needs.
type Options struct {
	Socket   string // path
	Devices  Devices
	Explorer Explorer
	// Drivers are those that Devices runs: the scan has to know which lines they have open.
	Drivers []device.Driver
	// History returns the newest values that were kept of a property between two times (zero: open), at most limit of them, the oldest first; no
	// property means all of the device. nil: nothing is kept.
	History func(namespace, name, property string, from, to time.Time, limit int) ([]Kept, error)
	// HistoryStats says what is kept of a device; nil if History is.
	HistoryStats func(namespace, name string) HistoryStats
	Log          *slog.Logger
}

// Server is the control service of one agent.
type Server struct {
	opt      Options
	mux      *http.ServeMux
	requests chan struct{}
	streams  chan struct{}
	scanning chan struct{}
	now      func() time.Time
	owner    int // user id that may ask, beside root
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{opt: o, mux: http.NewServeMux(), requests: make(chan struct{}, maxRequests), streams: make(chan struct{}, maxStreams),
		scanning: make(chan struct{}, 1), now: time.Now, owner: os.Getuid()}
	if s.opt.Log == nil {
		s.opt.Log = slog.Default()
	}
	const one = "/v1/devices/{namespace}/{name}/"
	s.mux.HandleFunc("GET /v1/devices", s.answer(readTime, s.list))
	s.mux.HandleFunc("POST "+one+"read", s.answer(readTime, s.read))
	s.mux.HandleFunc("POST "+one+"write", s.answer(readTime, s.write))
	s.mux.HandleFunc("POST "+one+"call", s.answer(callTime, s.call))
	s.mux.HandleFunc("GET "+one+"plan", s.answer(readTime, s.plan))
	s.mux.HandleFunc("GET "+one+"history", s.answer(readTime, s.historyStats))
	s.mux.HandleFunc("POST "+one+"history", s.stream(readTime, s.history))
	s.mux.HandleFunc("POST "+one+"browse", s.stream(browseTime, s.browse))
	s.mux.HandleFunc("GET /v1/watch", s.stream(watchTime, s.watch))
	s.mux.HandleFunc("POST /v1/scan", s.stream(scanTime, s.scan))
	s.mux.HandleFunc("GET /v1/certificates", s.answer(readTime, s.certificates))
	s.mux.HandleFunc("POST /v1/certificates/{fingerprint}/{verb}", s.answer(readTime, s.decide))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &Error{Code: CodeNotFound, Text: r.Method + " " + r.URL.Path + ": this agent does not know that: is it older than the command?"})
	})
	return s
}

// Run serves until ctx ends. A socket that cannot be opened is logged and tried again.
func (s *Server) Run(ctx context.Context) error {
	listen := func(ctx context.Context) (net.Listener, error) {
		l, err := localhttp.Listen(ctx, s.opt.Socket)
		if err != nil {
			return nil, err
		}
		return &limitedListener{Listener: l, room: make(chan struct{}, maxConns)}, nil
	}
	localhttp.Keep(ctx, s.opt.Log, "control.socket "+s.opt.Socket, listen, func() *http.Server {
		return &http.Server{
			Handler: s, ConnContext: withPeer,
			ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
			BaseContext: func(net.Listener) context.Context { return ctx },
			ErrorLog:    slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug),
		}
	})
	return nil
}

// ServeHTTP lets root and the agent's own user through.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if uid := peer(r.Context()); uid != 0 && uid != s.owner {
		s.opt.Log.Warn("somebody else than root asked on the control socket, and was refused", "uid", uid, "path", r.URL.Path)
		fail(w, &Error{Code: CodeForbidden, Text: "only root, or the agent's own user, may ask the agent: use sudo"})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// answer bounds a request that is answered at once.
func (s *Server) answer(limit time.Duration, do func(ctx context.Context, r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !take(s.requests) {
			fail(w, errTooMany)
			return
		}
		defer give(s.requests)
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		out, err := do(ctx, r)
		if err != nil {
			fail(w, err)
			return
		}
		b, err := json.Marshal(out)
		if err != nil {
			fail(w, fmt.Errorf("encode the answer: %w", err))
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(lineTime)) // without one, a client that never reads would keep the request's place
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(b, '\n')) // who does not wait for the answer does not need it
	}
}

var errTooMany = &Error{Code: CodeBusy, Text: "the agent answers too many requests on its control socket already: end other skerryctl commands, or try again"}

func take(room chan struct{}) bool {
	select {
	case room <- struct{}{}:
		return true
	default:
		return false
	}
}

func give(room chan struct{}) { <-room }

// fail answers with an error.
func fail(w http.ResponseWriter, err error) {
	e := asError(err)
	b, merr := json.Marshal(e)
	if merr != nil {
		b = []byte(`{"error":"the error cannot be encoded","code":"Failed"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(map[string]int{
		CodeNotFound: http.StatusNotFound, CodeInvalid: http.StatusBadRequest, CodeUnsupported: http.StatusNotImplemented,
		CodeUnreachable: http.StatusGatewayTimeout, CodeFailed: http.StatusUnprocessableEntity, CodeBusy: http.StatusServiceUnavailable,
		CodeForbidden: http.StatusForbidden,
	}[e.Code])
	_, _ = w.Write(append(b, '\n'))
}

// asError gives an error of a driver or a host its code.
func asError(err error) *Error {
	var e *Error
	var field *device.FieldError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, device.ErrUnreachable):
		return &Error{Code: CodeUnreachable, Text: err.Error()}
	case errors.Is(err, devices.ErrNotFound):
		return &Error{Code: CodeNotFound, Text: err.Error()}
	case errors.Is(err, errors.ErrUnsupported):
		return &Error{Code: CodeUnsupported, Text: err.Error()}
	case errors.Is(err, devices.ErrRefused):
		return &Error{Code: CodeInvalid, Text: err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeUnreachable, Text: "the device took too long: " + err.Error()}
	case errors.As(err, &field):
		return &Error{Code: CodeInvalid, Text: err.Error()}
	}
	return &Error{Code: CodeFailed, Text: err.Error()}
}

// decode reads a request's body.
func decode(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return &Error{Code: CodeInvalid, Text: fmt.Sprintf("the request is longer than %d bytes", maxBody)}
		}
		return &Error{Code: CodeInvalid, Text: "the request is not what this agent understands: " + err.Error()}
	}
	return nil
}

// limitedListener bounds how many connections are open: the rest wait in the kernel.
type limitedListener struct {
	net.Listener
	room chan struct{}
	once sync.Once
	done chan struct{}
	init sync.Once
}

func (l *limitedListener) closed() chan struct{} {
	l.init.Do(func() { l.done = make(chan struct{}) })
	return l.done
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.closed():
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &limitedConn{Conn: c, room: l.room}, nil
}

// Close also ends an Accept that waits for room.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed()) })
	return l.Listener.Close()
}

// limitedConn gives its place back once.
type limitedConn struct {
	net.Conn
	room chan struct{}
	once sync.Once
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.room })
	return err
}
