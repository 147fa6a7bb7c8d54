package kubeletapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/conduit"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

const (
	defaultRequests = 64
	defaultIdle     = 4 * time.Hour // the kubelet's streamingConnectionIdleTimeout
	headerTimeout   = 10 * time.Second
	keptIdle        = 30 * time.Second
	maxHeader       = 256 << 10        // a command and its arguments travel in the URL
	ioChunk         = 16 << 10         // bytes; a gateway has little memory
	maxPages        = 8                // of statistics, that are made or written at once
	pageTimeout     = 30 * time.Second // to make one, and for whoever asked to read it
)

// Pod is what the API has to know of a pod.
type Pod struct {
	Namespace, Name, UID string
	Containers           []Container // init containers, sidecars and ephemeral containers, too
	Status               *corev1.PodStatus
	Body                 []byte // the Pod in canonical MessagePack without its status, for /pods; may be empty

	HostNetwork bool
	Dir         string            // the agent's folder of the pod, with its volumes; empty: they are not measured
	Claims      map[string]string // names of claims, by volume
}

// Container is a container of a pod's spec.
type Container struct {
	Name       string
	TTY, Stdin bool
}

// Pods knows the node's pods. Calls do not block for long; what they return is not changed by anybody.
type Pods interface {
	Pod(namespace, name string) (Pod, bool)
	All() []Pod
}

// Runtime is what the API needs of the container runtime. *cri.Client implements it.
type Runtime interface {
	ListContainers(ctx context.Context, filter *cri.ContainerFilter) ([]cri.Container, error)
	ListPodSandbox(ctx context.Context, filter *cri.PodSandboxFilter) ([]cri.PodSandbox, error)
	ListContainerStats(ctx context.Context, filter *cri.ContainerStatsFilter) ([]cri.ContainerStats, error)
	ImageFsInfo(ctx context.Context) (*cri.ImageFsInfoResponse, error)
	Streams
}

// Streams prepares streaming sessions. *cri.Client implements it.
type Streams interface {
	Exec(ctx context.Context, req *cri.ExecRequest) (url string, err error)
	Attach(ctx context.Context, req *cri.AttachRequest) (url string, err error)
	PortForward(ctx context.Context, req *cri.PortForwardRequest) (url string, err error)
}

// ProbeCount is how often a probe of a container had a result, since the agent was started.
type ProbeCount struct {
	Namespace, Pod, UID, Container string
	Kind                           string // Liveness, Readiness, Startup
	Result                         string // successful, failed, unknown
	Count                          uint64
}

// Options configures a Server. Node, Pods, Runtime and LogDir are required.
type Options struct {
	Node    string
	Pods    Pods
	Runtime Runtime
	LogDir  string       // NAMESPACE_NAME_UID/CONTAINER/N.log below it, as the agent tells the runtime
	Dir     string       // a folder on the file system that holds the pods, for /stats/summary; empty: it is left out
	Proc    string       // default /proc
	Sys     string       // default /sys
	Log     *slog.Logger // may be nil

	// Group returns where cgroups are mounted and a pod's below that, or that of all pods for uid "". nil: cgroups are not looked at.
	Group func(uid string) (root, path string)
	// Probes returns how often probes had each result. May be nil.
	Probes func() []ProbeCount
	// Config returns what is answered to /configz, the fields of a KubeletConfiguration. May be nil.
	Config func() map[string]any
	// Expires returns when the agent's certificate ends; zero: not known. May be nil.
	Expires func() time.Time
	// NoFollow says why logs cannot be followed now; "": they can. Asked often, and must not block. May be nil.
	NoFollow func() string
	// Diagnose writes a diagnostic bundle of the gateway, a .tar.gz. nil: there is none.
	Diagnose func(ctx context.Context, w io.Writer) error
	// Version is the agent's, for kubernetes_build_info.
	Version string

	MaxRequests int           // at once; default 64
	Idle        time.Duration // after which an upgraded connection without traffic is closed; default 4 h
}

// Server answers the requests. Make it with New.
type Server struct {
	o        Options
	log      *slog.Logger
	handler  http.Handler
	runtime  *http.Transport // to the runtime's streaming server
	slots    chan struct{}
	pages    chan struct{}
	buffers  conduit.Buffers
	rates    rates
	usages   usages
	bundling chan struct{} // held by who makes a bundle (capacity 1)
	served   served
	compress compressor
}

// New checks the options. It does nothing else.
func New(o Options) (*Server, error) {
	if o.Node == "" || o.Pods == nil || o.Runtime == nil || o.LogDir == "" {
		return nil, errors.New("kubeletapi: Node, Pods, Runtime and LogDir are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.MaxRequests = cmp.Or(o.MaxRequests, defaultRequests)
	o.Idle = cmp.Or(o.Idle, defaultIdle)
	o.Proc = cmp.Or(o.Proc, "/proc")
	o.Sys = cmp.Or(o.Sys, "/sys")
	s := &Server{o: o, log: o.Log, slots: make(chan struct{}, o.MaxRequests), pages: make(chan struct{}, maxPages), buffers: conduit.Buffers{Size: ioChunk}, usages: usages{walking: make(chan struct{}, 1)}, bundling: make(chan struct{}, 1)}
	s.runtime = &http.Transport{
		DialContext: dialLoopback, DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: time.Minute,
	}
	s.handler = s.limit(s.routes())
	return s, nil
}

// Handler returns the API without a listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers requests on l until ctx ends, and then ends those that are under way. The error is nil then, or l's.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var h1 http.Protocols
	h1.SetHTTP1(true) // an upgrade needs a connection of its own
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler: s.handler, Protocols: &h1,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: keptIdle, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return serving }, // ends upgraded connections, too
		ErrorLog:    log.New(conduit.DebugLog{Log: s.log, Message: "kubelet API"}, "", 0),
	}
	var closing sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		closing.Go(func() { _ = srv.Close() })
	})
	err := srv.Serve(l)
	stop()
	cancel()
	_ = srv.Close()
	closing.Wait()
	if ctx.Err() != nil && (errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed)) {
		return nil
	}
	return fmt.Errorf("kubelet API: %w", err)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	}
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.serveLogs)
	for _, method := range []string{"GET", "POST"} { // WebSocket clients have to use GET
		for _, container := range []string{"{container}", "{uid}/{container}"} {
			mux.HandleFunc(method+" /exec/{namespace}/{pod}/"+container, s.serveExec)
			mux.HandleFunc(method+" /attach/{namespace}/{pod}/"+container, s.serveAttach)
		}
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", s.servePortForward)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", s.servePortForward)
	}
	for path, serve := range map[string]http.HandlerFunc{
		"/pods": s.servePods, "/pods/{$}": s.servePods, "/runningpods/{$}": s.serveRunningPods, "/configz": s.serveConfig,
		"/stats/summary": s.serveSummary, "/stats/{$}": s.serveSummary,
		"/metrics": s.serveOwnMetrics, "/metrics/cadvisor": s.serveContainerMetrics, "/metrics/probes": s.serveProbeMetrics, "/metrics/resource": s.serveResourceMetrics,
	} {
		mux.HandleFunc("GET "+path, s.page(serve))
	}
	mux.HandleFunc("GET /diagnose", s.serveBundle)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprintf("%s %s is not served by node %s: of a kubelet's API a Skerry agent has containerLogs, exec, attach, portForward, pods, runningpods, stats/summary, metrics, metrics/cadvisor, metrics/probes, metrics/resource, configz, healthz and diagnose",
			r.Method, r.URL.Path, s.o.Node), http.StatusNotFound)
	})
	return mux
}

// limit refuses what is too much at once, rather than letting a gateway run out of memory.
func (s *Server) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
		default:
			w.Header().Set("Retry-After", "5")
			http.Error(w, fmt.Sprintf("node %s serves %d requests of kubectl and others already, which is its limit: end some (logs -f, exec, port-forward), or try again later", s.o.Node, s.o.MaxRequests),
				http.StatusTooManyRequests)
			return
		}
		defer func() { <-s.slots }()
		s.served.begin()
		defer s.served.end(r)
		next.ServeHTTP(w, r)
	})
}

// page serves an answer that is made as a whole. Few are made and written at the same time, so that scrapers which ask in parallel, or do not
// read, take little of the gateway's memory and nothing from those who want a log.
func (s *Server) page(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		wait := time.NewTimer(statsTimeout)
		defer wait.Stop()
		select {
		case s.pages <- struct{}{}:
		case <-r.Context().Done():
			return
		case <-wait.C:
			w.Header().Set("Retry-After", "5")
			http.Error(w, fmt.Sprintf("node %s makes %d pages of statistics already, which is its limit: scrape it less often, or from fewer places", s.o.Node, maxPages), http.StatusServiceUnavailable)
			return
		}
		defer func() { <-s.pages }()
		// Flushed here, so that who does not read holds a place no longer than the deadline.
		c := http.NewResponseController(w)
		_ = c.SetWriteDeadline(time.Now().Add(pageTimeout))
		s.compress.serve(w, r, serve)
		_ = c.Flush()
	}
}

// pod finds the pod that a request names, and answers if there is none.
func (s *Server) pod(w http.ResponseWriter, r *http.Request) (Pod, bool) {
	namespace, name, uid := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("uid")
	p, ok := s.o.Pods.Pod(namespace, name)
	if !ok || uid != "" && uid != p.UID {
		http.Error(w, fmt.Sprintf("pod %q does not exist on node %s", name, s.o.Node), http.StatusNotFound)
		return Pod{}, false
	}
	return p, true
}

// container finds the container that a request names in its pod, and answers if there is none.
func (s *Server) container(w http.ResponseWriter, r *http.Request) (Pod, Container, bool) {
	p, ok := s.pod(w, r)
	if !ok {
		return p, Container{}, false
	}
	name := r.PathValue("container")
	for _, c := range p.Containers {
		if c.Name == name {
			return p, c, true
		}
	}
	http.Error(w, fmt.Sprintf("container %q not found in pod %q", name, p.Name), http.StatusNotFound)
	return p, Container{}, false
}
