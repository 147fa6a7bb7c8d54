package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/hub"
)

// serveWeb serves metrics, health and status until ctx ends.
func (r *relay) serveWeb(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		r.set.WritePrometheus(w)
		metrics.WriteProcessMetrics(w)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := r.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /statusz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r.status()); err != nil {
			r.log.Debug("status was not read to its end", slog.Any("error", err))
		}
	})
	if r.cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index) // heap, goroutine, mutex, block, allocs
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stopped := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stopped()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics address %s: %w", l.Addr(), err)
	}
	return nil
}

// Status is what /statusz answers; skerryctl reads it.
type Status struct {
	Name     string            `json:"name"`
	Version  string            `json:"version"`
	Ready    bool              `json:"ready"`
	Problem  string            `json:"problem,omitempty"` // why it is not ready
	Objects  map[wire.Kind]int `json:"objects"`           // held, by kind
	Sessions []SessionStatus   `json:"sessions"`
}

// SessionStatus is one agent's session.
type SessionStatus struct {
	hub.Info
	Objects int `json:"objects"` // that the node should hold
	Reports int `json:"reports"` // objects that it reports on
	Pending int `json:"pending"` // of those, not yet written to the API
}

func (r *relay) status() Status {
	st := Status{Name: r.cfg.Name, Version: skerry.Version, Ready: true, Objects: make(map[wire.Kind]int), Sessions: []SessionStatus{}}
	if err := r.ready(); err != nil {
		st.Ready, st.Problem = false, err.Error()
	}
	for _, k := range wire.Kinds() {
		st.Objects[k] = r.index.Count(k)
	}
	h := r.hub.Load()
	if h == nil {
		return st
	}
	reports := make(map[string]int)
	pending := make(map[string]int)
	for _, s := range r.sink.Sessions() {
		reports[s.Node], pending[s.Node] = s.Reports, s.Pending
	}
	for _, info := range h.Sessions() {
		keys, _ := r.index.Keys(info.Node)
		st.Sessions = append(st.Sessions, SessionStatus{Info: info, Objects: len(keys), Reports: reports[info.Node], Pending: pending[info.Node]})
	}
	slices.SortFunc(st.Sessions, func(a, b SessionStatus) int { return strings.Compare(a.Node, b.Node) })
	return st
}
