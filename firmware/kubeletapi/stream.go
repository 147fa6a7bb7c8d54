package kubeletapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/conduit"
)

// Labels that the agent gives to containers and sandboxes; they are the kubelet's (k8s.io/kubelet/pkg/types).
const (
	labelPodUID    = "io.kubernetes.pod.uid"
	labelContainer = "io.kubernetes.container.name"
)

// Query parameters of exec and attach (k8s.io/kubelet/pkg/cri/streaming/remotecommand, k8s.io/api/core/v1 ExecCommandParam and so on).
const (
	paramCommand = "command"
	paramStdin   = "input"
	paramStdout  = "output"
	paramStderr  = "error"
	paramTTY     = "tty"
	paramPort    = "port"
)

var errNoStream = errors.New("at least one of stdin, stdout and stderr must be wanted")

// ioOptions are which streams a session has.
type ioOptions struct{ stdin, stdout, stderr, tty bool }

func parseIO(q url.Values) (ioOptions, error) {
	on := func(name string) bool { return q.Get(name) == "1" || q.Get(name) == "true" }
	o := ioOptions{stdin: on(paramStdin), stdout: on(paramStdout), stderr: on(paramStderr), tty: on(paramTTY)}
	if o.tty {
		o.stderr = false // a terminal has one output
	}
	if !o.stdin && !o.stdout && !o.stderr {
		return o, errNoStream
	}
	return o, nil
}

func (s *Server) serveExec(w http.ResponseWriter, r *http.Request) {
	p, c, ok := s.container(w, r)
	if !ok {
		return
	}
	q := r.URL.Query()
	streams, err := parseIO(q)
	if err == nil && len(q[paramCommand]) == 0 {
		err = errors.New("no command was given")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id, ok := s.running(w, r, p, c)
	if !ok {
		return
	}
	at, err := s.o.Runtime.Exec(r.Context(), &cri.ExecRequest{
		ContainerID: id, Cmd: q[paramCommand], TTY: streams.tty, Stdin: streams.stdin, Stdout: streams.stdout, Stderr: streams.stderr,
	})
	s.handThrough(w, r, "exec", at, err)
}

func (s *Server) serveAttach(w http.ResponseWriter, r *http.Request) {
	p, c, ok := s.container(w, r)
	if !ok {
		return
	}
	streams, err := parseIO(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id, ok := s.running(w, r, p, c)
	if !ok {
		return
	}
	// Whether there is a terminal is decided when a container is made, not by who attaches to it.
	at, err := s.o.Runtime.Attach(r.Context(), &cri.AttachRequest{
		ContainerID: id, TTY: c.TTY, Stdin: streams.stdin, Stdout: streams.stdout, Stderr: streams.stderr && !c.TTY,
	})
	s.handThrough(w, r, "attach", at, err)
}

func (s *Server) servePortForward(w http.ResponseWriter, r *http.Request) {
	p, ok := s.pod(w, r)
	if !ok {
		return
	}
	var ports []int32 // SPDY clients name them stream by stream
	for _, text := range r.URL.Query()[paramPort] {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			http.Error(w, fmt.Sprintf("port %q is not a number between 1 and 65535", text), http.StatusBadRequest)
			return
		}
		ports = append(ports, int32(n))
	}
	ready := cri.SandboxReady
	sandboxes, err := s.o.Runtime.ListPodSandbox(r.Context(), &cri.PodSandboxFilter{State: &ready, LabelSelector: map[string]string{labelPodUID: p.UID}})
	if err != nil {
		s.runtimeFailed(w, "portForward", err)
		return
	}
	if len(sandboxes) == 0 {
		http.Error(w, fmt.Sprintf("pod %q does not run: it has no sandbox to forward ports to", p.Name), http.StatusNotFound)
		return
	}
	at, err := s.o.Runtime.PortForward(r.Context(), &cri.PortForwardRequest{PodSandboxID: sandboxes[0].ID, Port: ports})
	s.handThrough(w, r, "portForward", at, err)
}

// running returns the id of the container that runs, and answers if none does.
func (s *Server) running(w http.ResponseWriter, r *http.Request, p Pod, c Container) (id string, ok bool) {
	state := cri.ContainerRunning
	list, err := s.o.Runtime.ListContainers(r.Context(), &cri.ContainerFilter{
		State: &state, LabelSelector: map[string]string{labelPodUID: p.UID, labelContainer: c.Name},
	})
	if err != nil {
		s.runtimeFailed(w, "find the container", err)
		return "", false
	}
	if len(list) == 0 {
		http.Error(w, fmt.Sprintf("container %q of pod %q does not run%s", c.Name, p.Name, whyNot(p.Status, c.Name)), http.StatusNotFound)
		return "", false
	}
	newest := list[0]
	for _, l := range list[1:] {
		if l.CreatedAt > newest.CreatedAt {
			newest = l
		}
	}
	return newest.ID, true
}

func (s *Server) runtimeFailed(w http.ResponseWriter, what string, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, cri.ErrUnavailable) {
		status = http.StatusServiceUnavailable
	}
	s.log.Warn("kubelet API: the container runtime failed", "what", what, "error", err)
	http.Error(w, fmt.Sprintf("node %s: %s: %v", s.o.Node, what, err), status)
}

// streamingURL checks where a runtime wants the session to be: nothing that it says may lead off the gateway.
func streamingURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the runtime's streaming address %q cannot be read: %w", text, err)
	}
	if u.Scheme != "http" {
		return nil, fmt.Errorf("the runtime's streaming address %s is not http: set enable_tls_streaming = false in containerd's configuration (stream_enable_tls in CRI-O's); it listens on loopback only", u.Redacted())
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() == "localhost" {
		ip, err = netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	if err != nil || !ip.Unmap().IsLoopback() || u.Port() == "" {
		return nil, fmt.Errorf("the runtime's streaming address %s is not on loopback: set stream_server_address = \"127.0.0.1\" in containerd's configuration (stream_address in CRI-O's)", u.Redacted())
	}
	u.Host = net.JoinHostPort(ip.String(), u.Port())
	return u, nil
}

// dialLoopback connects to the runtime's streaming server, and to nothing that is not on this machine.
func dialLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("%s is not on loopback", address)
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return conduit.NoHalfClose(c), nil
}

// handThrough connects the request's connection with the runtime's session at a URL.
func (s *Server) handThrough(w http.ResponseWriter, r *http.Request, what, at string, err error) {
	if err != nil {
		s.runtimeFailed(w, what, err)
		return
	}
	u, err := streamingURL(at)
	if err != nil {
		s.log.Error("kubelet API: "+what+" cannot be served", "error", err)
		http.Error(w, "node "+s.o.Node+": "+err.Error(), http.StatusInternalServerError)
		return
	}
	if r.Header.Get("Upgrade") == "" {
		http.Error(w, what+" needs a connection that is upgraded to SPDY or WebSocket", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	watch := conduit.NewWatch(s.o.Idle, func() {
		s.log.Info("kubelet API: closed a connection on which nothing moved", "what", what, "for", s.o.Idle)
		cancel()
	})
	defer watch.Stop()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = u
			pr.Out.Host = u.Host
		},
		Transport: s.runtime, BufferPool: &s.buffers,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			s.runtimeFailed(w, what+": the runtime's streaming server", err)
		},
	}
	proxy.ServeHTTP(&conduit.Writer{ResponseWriter: w, Ctx: ctx, Watch: watch}, r.WithContext(ctx))
}
