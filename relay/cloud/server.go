package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/time/rate"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/skerry/skerry/firmware/wire"
	contract "github.com/skerry/skerry/firmware/wire/cloud"
)

// Pods knows the pods of nodes. *kube.Index implements it. It must not block.
type Pods interface {
	// BoundPod returns a pod that is bound to node, as agents get it, and its phase. ok is false if it is gone, another node's, or
	// not known yet. body is shared: read only.
	BoundPod(node string, pod wire.Key) (body []byte, phase string, ok bool)
}

// Options configure a Server. Pods, Accounts and Log are required.
type Options struct {
	Pods     Pods
	Accounts corev1client.ServiceAccountsGetter // with limits of its own
	Log      *slog.Logger
	Metrics  *metrics.Set // nil: not measured

	PerSecond float64 // tokens of one node, on average; default 1
	Burst     int     // and at once; default 300: a gateway full of pods that starts for the first time
	AtOnce    int     // requests of one node under way; default 4
	AllAtOnce int     // of all nodes; default 32
}

const (
	readLimit   = 10 * time.Second // for a request, from its first byte on
	idleLimit   = 30 * time.Second
	answerLimit = 12 * time.Second // what an agent waits for is a little more
	headerLimit = 4 << 10
	forgetAfter = 10 * time.Minute // a node that has not asked
	tellEvery   = time.Minute      // the same refusal of the same node, in the log
)

// Server serves agents. Make it with New.
type Server struct {
	opts  Options
	log   *slog.Logger
	http  *http.Server
	slots chan struct{} // of all nodes

	mu    sync.Mutex
	nodes map[string]*budget
}

// budget is what one node may do. Guarded by Server.mu.
type budget struct {
	rate  *rate.Limiter
	under int // requests under way
	last  time.Time
	told  map[contract.Code]time.Time
}

// New returns a server that serves while Serve does.
func New(opts Options) *Server {
	if opts.PerSecond <= 0 {
		opts.PerSecond = 1
	}
	if opts.Burst <= 0 {
		opts.Burst = 300
	}
	if opts.AtOnce <= 0 {
		opts.AtOnce = 4
	}
	if opts.AllAtOnce <= 0 {
		opts.AllAtOnce = 32
	}
	s := &Server{
		opts: opts, log: opts.Log, slots: make(chan struct{}, opts.AllAtOnce), nodes: map[string]*budget{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+contract.TokenPath, s.serveToken)
	s.http = &http.Server{
		Handler: mux, ReadTimeout: readLimit, WriteTimeout: readLimit + answerLimit, IdleTimeout: idleLimit, MaxHeaderBytes: headerLimit,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // what a gateway sends must not fill the log
	}
	return s
}

// Serve serves the streams that nodes open, until ctx ends; then it closes them. The remote address of each is the name of the node, as the
// hub's listeners have it. It is called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = s.http.Close() })()
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve what agents ask: %w", err)
	}
	return nil
}

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	node := r.RemoteAddr
	token, refusal := s.token(r, node)
	if refusal != nil {
		s.count(string(refusal.Code))
		s.tell(node, refusal)
		if refusal.RetryAfter > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(refusal.RetryAfter))
		}
		answer(w, refusal.Code.Status(), refusal)
		return
	}
	s.count("issued")
	answer(w, http.StatusOK, token)
}

// token reads one request and answers it within the node's budget.
func (s *Server) token(r *http.Request, node string) (*contract.Token, *contract.Refusal) {
	if refusal := s.enter(node, time.Now()); refusal != nil {
		return nil, refusal
	}
	defer s.leave(node)
	req, err := contract.ReadTokenRequest(r.Body)
	if err != nil {
		return nil, &contract.Refusal{Code: contract.CodeBadRequest, Message: "the request for a token cannot be read: " + err.Error(), Remedy: "agent and relay may be of releases too far apart"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerLimit)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, &contract.Refusal{Code: contract.CodeBusy, Message: "the relay has too many requests for tokens under way", RetryAfter: 5}
	}
	return s.issue(ctx, node, &req)
}

// enter takes a request out of the node's budget.
func (s *Server) enter(node string, now time.Time) *contract.Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.nodes[node]
	if b == nil {
		s.forget(now)
		b = &budget{rate: rate.NewLimiter(rate.Limit(s.opts.PerSecond), s.opts.Burst), told: map[contract.Code]time.Time{}}
		s.nodes[node] = b
	}
	b.last = now
	switch {
	case b.under >= s.opts.AtOnce:
		return &contract.Refusal{Code: contract.CodeBusy, Message: fmt.Sprintf("the node has %d requests for tokens under way, the limit", b.under), RetryAfter: 1}
	case !b.rate.AllowN(now, 1):
		return &contract.Refusal{Code: contract.CodeBusy, Message: fmt.Sprintf("the node asks for more than %g tokens a second", s.opts.PerSecond), RetryAfter: 10}
	}
	b.under++
	return nil
}

func (s *Server) leave(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[node].under--
}

// forget drops the budgets of nodes that have not asked for long: they are full again. s.mu is held.
func (s *Server) forget(now time.Time) {
	for name, b := range s.nodes {
		if b.under == 0 && now.Sub(b.last) > max(forgetAfter, time.Duration(float64(s.opts.Burst)/s.opts.PerSecond)*time.Second) {
			delete(s.nodes, name)
		}
	}
}

func (s *Server) count(result string) {
	if s.opts.Metrics != nil {
		s.opts.Metrics.GetOrCreateCounter(fmt.Sprintf(`skerry_relay_tokens_total{result=%q}`, result)).Inc()
	}
}

// tell logs a refusal, each kind for each node once a minute at most.
func (s *Server) tell(node string, r *contract.Refusal) {
	now := time.Now()
	s.mu.Lock()
	b := s.nodes[node]
	quiet := b == nil || now.Sub(b.told[r.Code]) < tellEvery
	if !quiet {
		b.told[r.Code] = now
	}
	s.mu.Unlock()
	if !quiet {
		s.log.Warn("refused a service account token", slog.String("node", node), slog.String("reason", string(r.Code)), slog.String("detail", r.Error()))
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked is gone
}
