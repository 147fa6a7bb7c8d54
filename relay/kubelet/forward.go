package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/firmware/wire/conduit"
)

// nodeHeader names the node of a request that one relay hands to another. From anybody else it is dropped.
const nodeHeader = "Skerry-Node"

const (
	dialLimit   = 5 * time.Second
	answerLimit = 90 * time.Second // an agent asks its runtime before it answers
	changing    = 30 * time.Second // an agent that has lost its relay has another one long before
	leaseSpace  = "kube-node-lease"
	relayNote   = "skerry.dev/relay"
)

// hand sends a request to the node's agent, here or through the relay that has its session.
func (s *Server) hand(w http.ResponseWriter, r *http.Request, node string) {
	if h := s.o.Sessions(); h != nil && h.Connected(node) {
		s.meter.handed("here")
		s.proxy(w, r, node, s.agents, agentURL(r.URL, "http", node), nil)
		return
	}
	at, err := s.locate(r.Context(), node)
	if err != nil {
		s.refuse(w, r, http.StatusServiceUnavailable, "not-connected", err.Error())
		return
	}
	s.meter.handed("elsewhere")
	s.proxy(w, r, node, s.peers, agentURL(r.URL, "https", at.Address), func(h http.Header) { h.Set(nodeHeader, node) })
}

// serveHere answers another relay's request.
func (s *Server) serveHere(w http.ResponseWriter, r *http.Request, node string) {
	h := s.o.Sessions()
	if h == nil || !h.Connected(node) {
		at, err := s.locate(r.Context(), node)
		if err == nil { // the Lease has changed since the other relay read it
			err = fmt.Errorf("node %s was said to be connected to relay %s, and is at %s: it is changing relays; try again in a moment", node, s.o.Name, at.Address)
		}
		s.refuse(w, r, http.StatusServiceUnavailable, "not-connected", err.Error())
		return
	}
	s.meter.handed("for-another-relay")
	s.proxy(w, r, node, s.agents, agentURL(r.URL, "http", node), nil)
}

// locate finds the relay that a node which is not connected here is connected to. The error is for people.
func (s *Server) locate(ctx context.Context, node string) (Peer, error) {
	relay, renewed, err := s.leases.read(ctx, node)
	switch {
	case apierrors.IsNotFound(err):
		return Peer{}, fmt.Errorf("node %s has never been connected to a relay, or is no Skerry gateway: it has no Lease", node)
	case err != nil:
		return Peer{}, fmt.Errorf("relay %s cannot find out where node %s is connected: %w", s.o.Name, node, err)
	case relay == "":
		return Peer{}, fmt.Errorf("node %s is no Skerry gateway: its Lease names no relay", node)
	}
	last := "its last sign of life was at " + renewed.UTC().Format(time.RFC3339)
	if relay == s.o.Name {
		do := "Its pods go on running; look at the gateway's power and network, or at `skerryd status` there"
		if time.Since(renewed) < changing {
			do = "It may be changing relays: try again in a moment"
		}
		return Peer{}, fmt.Errorf("node %s is not connected: it was, to relay %s; %s. %s", node, relay, last, do)
	}
	p := s.o.Peer(relay)
	switch {
	case !p.Alive:
		return Peer{}, fmt.Errorf("node %s is not connected: relay %s, which had it, is gone; %s. It will come to another relay by itself if the gateway has network", node, relay, last)
	case p.Address == "":
		return Peer{}, fmt.Errorf("node %s is connected to relay %s, whose kubelet port this relay (%s) does not know: set kubelet.peerAddress there", node, relay, s.o.Name)
	}
	return p, nil
}

// leaseReader reads nodes' Leases.
type leaseReader struct{ client kubernetes.Interface }

func (l *leaseReader) read(ctx context.Context, node string) (relay string, renewed time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, reviewLimit)
	defer cancel()
	lease, err := l.client.CoordinationV1().Leases(leaseSpace).Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return "", time.Time{}, err
	}
	if lease.Spec.RenewTime != nil {
		renewed = lease.Spec.RenewTime.Time
	}
	return lease.Annotations[relayNote], renewed, nil
}

// proxy hands a request, and the connection that it may become, through to where it belongs.
func (s *Server) proxy(w http.ResponseWriter, r *http.Request, node string, by http.RoundTripper, to *url.URL, mark func(http.Header)) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	watch := conduit.NewWatch(s.o.Idle, func() {
		s.log.Info("kubelet API: closed a connection on which nothing moved", slog.String("node", node), slog.String("path", r.URL.Path), slog.Duration("for", s.o.Idle))
		cancel()
	})
	defer watch.Stop()
	s.meter.open.Add(1)
	defer s.meter.open.Add(-1)
	out := &watchedWriter{Writer: conduit.Writer{ResponseWriter: w, Ctx: ctx, Watch: watch}}
	p := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL, pr.Out.Host = to, ""
			// Who asked has been found out. A gateway must not see a token that opens the cluster.
			for _, secret := range []string{"Authorization", "Cookie", "Proxy-Authorization", nodeHeader} {
				pr.Out.Header.Del(secret)
			}
			dropTokens(pr.Out.Header)
			if mark != nil {
				mark(pr.Out.Header)
			}
		},
		ModifyResponse: func(answer *http.Response) error {
			if !streams(r.URL.Path) && answer.StatusCode != http.StatusSwitchingProtocols {
				if err := boundPage(answer); err != nil {
					return err
				}
			}
			if tracks(r.URL.Path, answer) {
				out.tracker = &spdyTracker{message: lostText(s.o.Name, node)}
			}
			return nil
		},
		Transport: by, BufferPool: &s.buffers,
		ErrorLog: log.New(conduit.DebugLog{Log: s.log, Message: "kubelet API"}, "", 0),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if ctx.Err() != nil {
				return // whoever asked is gone
			}
			s.refuse(w, r, http.StatusServiceUnavailable, "unreachable", fmt.Sprintf("relay %s cannot reach node %s: %v", s.o.Name, node, err))
		},
	}
	p.ServeHTTP(out, r.WithContext(ctx))
}

// tokenProtocol is the WebSocket subprotocol in which browsers' clients of the API server carry a bearer token (k8s.io/apiserver,
// pkg/authentication/request/websocket). The API server takes it out; who comes here directly may have left it in.
const tokenProtocol = "base64url.bearer.authorization.k8s.io."

func dropTokens(h http.Header) {
	const field = "Sec-Websocket-Protocol"
	var kept []string
	for _, line := range h[field] {
		for item := range strings.SplitSeq(line, ",") {
			if item = strings.TrimSpace(item); item != "" && !strings.HasPrefix(item, tokenProtocol) {
				kept = append(kept, item)
			}
		}
	}
	if h.Del(field); len(kept) > 0 {
		h.Set(field, strings.Join(kept, ", "))
	}
}

// agentTransport opens a stream for each request: it costs a frame or two, and an agent has no connections to keep.
func (s *Server) agentTransport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			h := s.o.Sessions()
			if h == nil {
				return nil, errors.New("this relay does not serve agents yet")
			}
			ctx, cancel := context.WithTimeout(ctx, dialLimit)
			defer cancel()
			c, err := h.Dial(ctx, node, Service)
			if err != nil {
				return nil, err
			}
			return conduit.NoHalfClose(c), nil
		},
		DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: answerLimit, MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

// peerTransport connects to other relays' kubelet ports. Connections are kept for a while: statistics are read again and again.
func (s *Server) peerTransport() *http.Transport {
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			id, err := s.o.Identity()
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, dialLimit)
			defer cancel()
			var d net.Dialer
			raw, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			c := tls.Client(raw, &tls.Config{
				MinVersion: tls.VersionTLS13, ServerName: peerName, RootCAs: id.Roots, Certificates: []tls.Certificate{*id.Certificate},
			})
			if err := c.HandshakeContext(ctx); err != nil {
				_ = raw.Close()
				return nil, fmt.Errorf("relay at %s: %w", address, err)
			}
			return conduit.NoHalfClose(c), nil
		},
		DisableCompression: true, MaxIdleConnsPerHost: 32, IdleConnTimeout: keptIdle / 2, ResponseHeaderTimeout: answerLimit + dialLimit,
	}
}
