package kubelet

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/conduit"
)

// Service is the name of the streams that lead to an agent's kubelet API.
const Service = wire.ServiceKubelet

const (
	defaultIdle   = 4 * time.Hour // the kubelet's streamingConnectionIdleTimeout
	headerTimeout = 10 * time.Second
	keptIdle      = 90 * time.Second
	maxHeader     = 512 << 10 // a command and its arguments travel in the URL
	closePatience = 2 * time.Second
	pageLimit     = answerLimit + 30*time.Second // for an answer about a node to be made and read
)

// Sessions are the agents that are connected to this relay. *hub.Hub implements it.
type Sessions interface {
	// Dial opens a stream to a node's agent; it fails at once if the node is not connected here.
	Dial(ctx context.Context, node, service string) (net.Conn, error)
	Connected(node string) bool
}

// Lookup finds nodes in what the relay knows of the cluster. *kube.Index implements it. Calls do not block.
type Lookup interface {
	NodeOfPod(namespace, name string) (node string, ok bool)
	HasNode(name string) bool
}

// Peer is another relay.
type Peer struct {
	Address string // HOST:PORT of its kubelet port; empty: it has none that others reach
	Alive   bool
}

// Identity is what relays know each other by.
type Identity struct {
	Certificate *tls.Certificate
	Roots       *x509.CertPool
}

// Options configures a Server. Name, Listen, Client, Sessions, Pods, Peer and Identity are required.
type Options struct {
	Name     string // of this relay
	Listen   string // HOST:PORT
	Client   kubernetes.Interface
	Sessions func() Sessions // nil while there are none
	Pods     Lookup
	Peer     func(relay string) Peer
	Identity func() (Identity, error)

	Domain       string // nodes are NAME.Domain; empty: no names
	Ports        *Ports // nodes have ports of their own; nil: they have not
	ClientCAFile string // of the API server's client certificates; empty: what the cluster publishes
	CertFile     string // serving certificate and key, read anew when they change; empty: one of Skerry's CA
	KeyFile      string
	Idle         time.Duration // after which a connection without traffic is closed; default 4 h
	Metrics      *metrics.Set  // may be nil
	Log          *slog.Logger  // may be nil

	pageLimit time.Duration // default pageLimit
}

// Server serves the kubelet port. Make it with New, and run it.
type Server struct {
	o        Options
	log      *slog.Logger
	meter    *meter
	users    *authenticator
	access   *authorizer
	serving  *servingCertificate
	leases   *leaseReader
	agents   *http.Transport
	peers    *http.Transport
	buffers  conduit.Buffers
	handler  http.Handler
	listener net.Listener
}

// New opens the port. Its error says what to change.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.Name == "" || o.Client == nil || o.Sessions == nil || o.Pods == nil || o.Peer == nil || o.Identity == nil {
		return nil, errors.New("kubelet: Name, Client, Sessions, Pods, Peer and Identity are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	o.Idle, o.pageLimit = cmp.Or(o.Idle, defaultIdle), cmp.Or(o.pageLimit, pageLimit)
	s := &Server{o: o, log: o.Log, meter: newMeter(o.Metrics)}
	var err error
	if s.serving, err = newServingCertificate(o.CertFile, o.KeyFile, o.Identity); err != nil {
		return nil, err
	}
	if s.users, err = newAuthenticator(o.Client, o.ClientCAFile, o.Log); err != nil {
		return nil, err
	}
	s.access = newAuthorizer(o.Client)
	s.leases = &leaseReader{client: o.Client}
	s.agents = s.agentTransport()
	s.peers = s.peerTransport()
	s.handler = http.HandlerFunc(s.serve)
	var lc net.ListenConfig
	if s.listener, err = lc.Listen(ctx, "tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("kubelet port %s: %w: choose another with kubelet.listen, or stop what uses it", o.Listen, err)
	}
	return s, nil
}

// Run serves until ctx ends. Requests that are under way end with it: whoever follows a log asks again, and comes to another relay.
func (s *Server) Run(ctx context.Context) error {
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	var h1 http.Protocols
	h1.SetHTTP1(true) // an upgrade needs a connection of its own, and a log that nobody reads must hold up no other
	srv := &http.Server{
		Handler: s.handler, Protocols: &h1,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: keptIdle, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return serving },
		ConnContext: withPort,
		ErrorLog:    log.New(conduit.DebugLog{Log: s.log, Message: "kubelet API"}, "", 0),
	}
	var parts sync.WaitGroup
	parts.Go(func() { s.users.run(serving) })
	served := make(chan error, 1)
	config := s.tlsConfig()
	go func() { served <- srv.Serve(tls.NewListener(s.listener, config)) }()
	if s.o.Ports != nil {
		parts.Go(func() {
			s.o.Ports.run(serving, func(l net.Listener) error { return srv.Serve(tls.NewListener(l, config)) })
		})
	}
	s.log.Info("relay serves the kubelet API of its nodes", slog.String("listen", s.listener.Addr().String()))
	var err error
	select {
	case err = <-served:
		cancel()
	case <-ctx.Done():
		cancel()
		ending, done := context.WithTimeout(context.Background(), closePatience)
		_ = srv.Shutdown(ending) // answers that are being written are short; the rest has been told by its context
		done()
		_ = srv.Close()
		<-served //nolint:errcheck // it is the error of a server that was closed on purpose
	}
	parts.Wait()
	s.agents.CloseIdleConnections()
	s.peers.CloseIdleConnections()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("kubelet port %s: %w", s.o.Listen, err)
}

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	// What is about a node as a whole is a page; whoever does not read it is let go. A connection may be used again for a stream, which has no end.
	var end time.Time
	if !streams(r.URL.Path) {
		end = time.Now().Add(s.o.pageLimit)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(end)
	if node, ok := s.fromPeer(r); ok {
		s.serveHere(w, r, node)
		return
	}
	r.Header.Del(nodeHeader)
	user, err := s.users.authenticate(r)
	if err != nil {
		s.refuse(w, r, http.StatusUnauthorized, "unauthenticated", err.Error())
		return
	}
	node, path, problem := s.route(r)
	if problem != nil {
		// Whether a pod exists is not told to those who may not ask about any node.
		switch ok, err := s.access.allowed(r.Context(), user, r.Method, path, ""); {
		case err != nil:
			s.reviewFailed(w, r, err)
			return
		case !ok:
			s.refuse(w, r, http.StatusForbidden, "forbidden", forbidden(user, r.Method, path))
			return
		}
		s.refuse(w, r, problem.status, "no-node", problem.text)
		return
	}
	ok, err := s.access.allowed(r.Context(), user, r.Method, path, node)
	switch {
	case err != nil:
		s.reviewFailed(w, r, err)
		return
	case !ok:
		s.refuse(w, r, http.StatusForbidden, "forbidden", forbidden(user, r.Method, path))
		return
	}
	r.URL.Path, r.URL.RawPath = path, ""
	s.hand(w, r, node)
}

func (s *Server) reviewFailed(w http.ResponseWriter, r *http.Request, err error) {
	s.refuse(w, r, http.StatusInternalServerError, "review-failed", fmt.Sprintf("relay %s cannot ask the API server whether this is allowed: %v", s.o.Name, err))
}

// forbidden is the same whether there is such a pod or node, and where: who may not ask does not learn it.
func forbidden(u user, method, path string) string {
	return fmt.Sprintf("user %q may not %s nodes/%s of the node that this is about: grant it by RBAC (docs/kubelet.md, rights)", u.name, verb(method), subresources(path)[0])
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, reason, text string) {
	s.meter.refused(reason)
	s.log.Debug("kubelet API: refused", slog.String("remote", r.RemoteAddr), slog.String("path", r.URL.Path), slog.String("reason", reason), slog.String("detail", text))
	if ofPod(r.URL.Path) {
		http.Error(w, text, status) // the API server quotes it, as a kubelet's
		return
	}
	// Clients of the API server see the answers of its node proxy themselves. They show a text only with some statuses, and a Status always.
	body, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(status), //nolint:gosec // three digits
		Reason: metav1.StatusReason(strings.ReplaceAll(http.StatusText(status), " ", "")), Message: text,
	})
	if err != nil {
		http.Error(w, text, status)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
