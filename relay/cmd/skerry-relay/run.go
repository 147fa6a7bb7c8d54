package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/firmware/wire"
	contract "github.com/skerry/skerry/firmware/wire/cloud"
	"github.com/skerry/skerry/relay/cloud"
	"github.com/skerry/skerry/relay/config"
	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/hub"
	"github.com/skerry/skerry/relay/kube"
	"github.com/skerry/skerry/relay/members"
	"github.com/skerry/skerry/relay/tickets"
)

// relay is what the parts of the process share.
type relay struct {
	cfg     config.Config
	log     *slog.Logger
	set     *metrics.Set
	index   *kube.Index
	sink    *kube.Sink
	revoked *enroll.Revocations
	ca      *enroll.Authority
	tickets *tickets.Keys
	members *members.Members
	client  kubernetes.Interface
	config  *rest.Config // how to make further clients
	cloud   *cloud.Server
	keeper  *kube.Autonomy          // nil: switched off
	hub     atomic.Pointer[hub.Hub] // nil until the CA has been read
	waiting atomic.Pointer[string]  // why there is no hub yet
}

// run runs the relay until ctx ends. Ports that are taken are errors; an API server that does not answer, or lacks what
// `skerryctl init` installs, is not: the relay says so, and goes on trying.
func run(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	r, err := newRelay(cfg, log)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	web, err := lc.Listen(ctx, "tcp", cfg.MetricsAddress)
	if err != nil {
		return fmt.Errorf("metrics address %s: %w: choose another with --metrics-address, or stop what uses it", cfg.MetricsAddress, err)
	}
	defer web.Close()
	agents, err := hub.Listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	defer agents.Close()
	kubelets, err := r.newKubelet(ctx, r.config)
	if err != nil {
		return err
	}
	log.Info("relay starts", slog.String("name", cfg.Name), slog.String("version", skerry.Version),
		slog.String("listen", agents.Addr().String()), slog.String("metrics", web.Addr().String()))

	// The background outlives the sessions, so that what they end with is taken.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, background := errgroup.WithContext(background)
	if r.keeper != nil {
		g.Go(func() error { return r.keeper.Run(background) })
	}
	g.Go(func() error { return r.index.Run(background) })
	g.Go(func() error { return r.sink.Run(background) })
	g.Go(func() error { return r.revoked.Run(background) })
	g.Go(func() error { return r.ca.Run(background) })
	g.Go(func() error { return r.tickets.Run(background) })
	g.Go(func() error { return r.runMembers(background, ctx) })
	g.Go(func() error { return r.serveWeb(background, web) })
	if kubelets != nil {
		g.Go(func() error { return kubelets.Run(background) })
	}

	serving, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(background, cancel)()
	defer context.AfterFunc(serving, func() {
		why := "the relay ends; its agents go elsewhere"
		r.waiting.Store(&why)
	})()
	err = r.serveAgents(serving, agents)
	cancel()
	r.flush()
	stop()
	if bgErr := waitFor(g, stopPatience); err == nil && !errors.Is(bgErr, context.Canceled) {
		err = bgErr
	}
	log.Info("relay has stopped")
	return err
}

// stopPatience bounds the end: client-go's informers may sleep through a cancelled context while the API server is away,
// for half a minute, and nothing of theirs needs an orderly end.
const stopPatience = 1500 * time.Millisecond

// flushPatience bounds writing what agents have reported before the sessions ended. It has been acknowledged, and what is not
// written is reported again to whichever relay an agent comes to: this saves the others work.
const flushPatience = 5 * time.Second

func (r *relay) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), flushPatience)
	defer cancel()
	if err := r.sink.Flush(ctx); err != nil {
		r.log.Warn("not all reports were written; the agents report them again, to the next relay", slog.Any("error", err))
	}
}

func waitFor(g *errgroup.Group, patience time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return nil
	}
}

func newRelay(cfg config.Config, log *slog.Logger) (*relay, error) {
	set := metrics.NewSet()
	meter := kube.NewMetrics(set)
	clients, err := kube.Connect(kube.ClientOptions{Kubeconfig: cfg.Kubeconfig, QPS: cfg.API.QPS, Burst: cfg.API.Burst, Metrics: meter})
	if err != nil {
		return nil, err
	}
	r := &relay{cfg: cfg, log: log, set: set, config: clients.Config}
	if r.client, err = kubernetes.NewForConfig(clients.Config); err != nil {
		return nil, fmt.Errorf("make a Kubernetes client: %w", err)
	}
	if r.members, err = r.newMembers(clients.Config); err != nil {
		return nil, err
	}
	r.index = kube.NewIndex(kube.IndexOptions{Client: clients.API, Log: log, Metrics: meter})
	r.sink = kube.NewSink(kube.SinkOptions{
		Index: r.index, Client: clients.API, Leases: clients.Leases, Statuses: clients.Statuses, Relay: cfg.Name, Log: log, Metrics: meter,
		QPS: cfg.API.QPS, Burst: cfg.API.Burst, Writers: cfg.API.Writers, NodeQPS: float64(cfg.Limits.WritesPerSecond), DeviceInterval: cfg.Devices.WriteInterval,
		LeaseDuration: cfg.Lease.Duration, LeaseInterval: cfg.Lease.Interval,
		Fenced: func(node string, epoch uint64) {
			if h := r.hub.Load(); h != nil {
				h.End(node, epoch, "another relay owns the node now")
			}
		},
		Want: func(node string, epoch uint64, keys []wire.Key) {
			if h := r.hub.Load(); h != nil {
				h.Want(node, epoch, keys)
			}
		},
		Alive: r.aliveRelays, Kubelet: kubeletEndpoint(cfg.Kubelet),
		Busy: func() bool {
			h := r.hub.Load()
			return h != nil && h.Busy()
		},
	})
	if cfg.Autonomy.Enabled {
		r.keeper = kube.NewAutonomy(kube.AutonomyOptions{
			Index: r.index, Client: clients.API, Relay: cfg.Name, Log: log, Metrics: meter,
			Alive: r.aliveRelays, Duration: cfg.Autonomy.Duration, QPS: cfg.API.QPS / 4, Burst: max(cfg.API.Burst/4, 1),
		})
	}
	accounts, err := kubernetes.NewForConfig(clients.Config) // with limits of its own: a fleet that asks for tokens must not keep gateways from joining
	if err != nil {
		return nil, fmt.Errorf("make a Kubernetes client for tokens: %w", err)
	}
	r.cloud = cloud.New(cloud.Options{Pods: r.index, Accounts: accounts.CoreV1(), Log: log, Metrics: set})
	r.revoked = enroll.NewRevocations(r.client, log, func(node string) {
		if h := r.hub.Load(); h != nil {
			h.Recheck(node)
		}
	})
	r.ca = enroll.NewAuthority(enroll.AuthorityOptions{Client: r.client, Names: cfg.Advertise, Metrics: set, Log: log, Changed: func() {
		if h := r.hub.Load(); h != nil {
			h.RecheckAll()
		}
	}})
	r.tickets = tickets.New(tickets.Options{Client: r.client, Log: log, Apply: func(keys [][32]byte) {
		if h := r.hub.Load(); h != nil {
			h.SetTicketKeys(keys)
		}
	}})
	return r, nil
}

// serveAgents waits for the CA, then serves until ctx ends.
func (r *relay) serveAgents(ctx context.Context, l net.Listener) error {
	if err := r.loadCA(ctx); err != nil {
		return nil // ctx has ended
	}
	h := hub.New(hub.Options{
		Name: r.cfg.Name, TLS: r.ca.ServerTLS(), ClientCAs: r.ca.Pool, Source: r.index, Sink: r.sink, Rules: wire.Rules(kube.TrimVersion),
		Refused: r.revoked.Refused,
		Trusted: func(i hub.Issuer) bool {
			return r.ca.Trusts(func(c *x509.Certificate) bool { return hub.KeyOf(c) == i })
		},
		Admit:     r.admit,
		Ready:     r.ready,
		Elsewhere: r.members.Elsewhere,
		Drain:     r.cfg.Drain.Period,
		Enroll: enroll.NewServer(enroll.Options{
			Client: r.client, CA: r.ca.CA, Revoked: r.revoked,
			Lifetime: r.cfg.Enroll.CertificateLifetime, Metrics: r.set, Log: r.log,
		}),
		Limits: sessionLimits(r.cfg.Limits), Connecting: r.cfg.Limits.Connecting, SessionsPerMinute: r.cfg.Limits.SessionsPerMinute,
		Metrics: r.set, Log: r.log,
	})
	r.hub.Store(h)
	if keys := r.tickets.Current(); len(keys) > 0 {
		h.SetTicketKeys(keys)
	}
	streams, err := h.Listen(contract.Service)
	if err != nil {
		return fmt.Errorf("serve what agents ask: %w", err)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx)) // for as long as there are sessions
	answered := make(chan error, 1)
	go func() { answered <- r.cloud.Serve(serving, streams) }()
	defer func() {
		stop()
		if err := <-answered; err != nil {
			r.log.Error("agents get no tokens from this relay", slog.Any("error", err))
		}
	}()
	r.log.Info("relay serves agents", slog.String("listen", l.Addr().String()))
	return h.Serve(ctx, l)
}

// admit keeps agents out until it is known who is revoked and what they should hold: they are told to come again.
func (r *relay) admit(string) (retryAfter time.Duration, ok bool) {
	ready, _ := r.index.Ready()
	return time.Second, ready && r.revoked.Synced()
}

// ready says in one line what is in the way.
func (r *relay) ready() error {
	if why := r.waiting.Load(); why != nil {
		return errors.New(*why)
	}
	if ok, problems := r.index.Ready(); !ok {
		return errors.New(strings.Join(problems, "; "))
	}
	if !r.revoked.Synced() {
		return r.revoked.Problem()
	}
	if r.hub.Load() == nil {
		return errors.New("the CA is still being read")
	}
	return nil
}

const (
	caRetry  = 2 * time.Second
	caRemind = 30 * time.Second
)

// loadCA reads the CA, for ever if need be; the error is ctx's.
func (r *relay) loadCA(ctx context.Context) error {
	var logged time.Time
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := r.ca.Load(attempt)
		cancel()
		if err == nil {
			r.waiting.Store(nil)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		why := "waiting for the CA: " + err.Error()
		r.waiting.Store(&why)
		if time.Since(logged) > caRemind {
			r.log.Error("cannot serve agents yet; retrying", slog.String("problem", why))
			logged = time.Now()
		}
		t := time.NewTimer(caRetry)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}
