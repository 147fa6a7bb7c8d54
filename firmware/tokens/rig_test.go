package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/cloud"
	"github.com/skerry/skerry/firmware/wire/stream/streamtest"
)

// memory is a store that can be told to fail.
type memory struct {
	mu      sync.Mutex
	records map[string][]byte
	fails   error
}

func (m *memory) Scan(prefix string, fn func(string, []byte) error) error {
	m.mu.Lock()
	records := maps.Clone(m.records)
	m.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(records)) {
		if strings.HasPrefix(k, prefix) {
			if err := fn(k, records[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Put(_ context.Context, key string, record []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	m.records[key] = record
	return nil
}

func (m *memory) Delete(ctx context.Context, keys ...string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.records, k)
	}
	return nil
}

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

// rig is a keeper, its store, and a relay behind pipes.
type rig struct {
	t     *testing.T
	k     *Keeper
	store *memory
	want  func(uid string) bool
	stop  func()
	log   strings.Builder
	logMu sync.Mutex

	mu       sync.Mutex
	online   bool
	asked    []cloud.TokenRequest
	at       []time.Time
	under    int // requests under way now
	most     int
	answer   func(r cloud.TokenRequest, n int) (any, int)
	lifetime int64
}

func (g *rig) Write(p []byte) (int, error) {
	g.logMu.Lock()
	defer g.logMu.Unlock()
	return g.log.Write(p)
}

func (g *rig) logText() string {
	g.logMu.Lock()
	defer g.logMu.Unlock()
	return g.log.String()
}

func (g *rig) connected() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.online
}

func (g *rig) set(online bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.online = online
}

func (g *rig) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.asked)
}

// ServeHTTP answers as a relay does.
func (g *rig) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, err := cloud.ReadTokenRequest(r.Body)
	if err != nil || r.Method != http.MethodPost || r.URL.Path != cloud.TokenPath {
		g.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	g.mu.Lock()
	g.asked, g.at = append(g.asked, req), append(g.at, time.Now())
	g.under++
	g.most = max(g.most, g.under)
	n, answer := len(g.asked), g.answer
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.under--
		g.mu.Unlock()
	}()
	time.Sleep(100 * time.Millisecond)
	var body any = cloud.Token{Token: fmt.Sprintf("token-%d", n), Expires: time.Now().Add(time.Duration(g.lifetime) * time.Second), Lifetime: g.lifetime}
	status := http.StatusOK
	if answer != nil {
		body, status = answer(req, n)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func bubble(t *testing.T, test func(g *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &rig{t: t, store: &memory{records: map[string][]byte{}}, online: true, lifetime: 3600}
		g.start()
		defer func() { g.stop() }()
		test(g)
	})
}

// start opens a keeper on the store, as after a restart of the agent.
func (g *rig) start() {
	l := streamtest.NewPipes()
	server := &http.Server{Handler: g}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	k, err := Open(g.t.Context(), Options{
		Store: g.store, Connected: g.connected, Wanted: g.want, Log: slog.New(slog.NewTextHandler(g, nil)),
		Dial: func(ctx context.Context) (net.Conn, error) {
			if !g.connected() {
				return nil, errors.New("no session")
			}
			return l.Dial(ctx)
		},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.k = k
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			g.t.Errorf("Run: %v", err)
		}
		_ = server.Close()
		<-served
	})
}

const pod = wire.Key("pods/default/web/u1")

func (g *rig) token(key wire.Key, audience string) (string, error) {
	token, _, err := g.k.Token(g.t.Context(), key, "default", audience, 3607)
	return token, err
}
