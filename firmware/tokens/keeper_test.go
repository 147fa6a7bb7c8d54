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

func (m *memory) Delete(_ context.Context, keys ...string) error {
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

// listener hands the relay's ends of pipes to its server.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.IPAddr{} }

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
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
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
			here, there := net.Pipe()
			select {
			case l.conns <- there:
				return here, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
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

func TestTokenArrivesAndIsRenewed(t *testing.T) {
	bubble(t, func(g *rig) {
		begin := time.Now()
		var wg sync.WaitGroup
		for range 8 { // who waits for the same token waits for one request
			wg.Go(func() {
				if token, err := g.token(pod, ""); token != "token-1" || err != nil {
					t.Errorf("%q, %v", token, err)
				}
			})
		}
		wg.Wait()
		if waited := time.Since(begin); waited > time.Second || g.count() != 1 {
			t.Errorf("waited %v, %d requests", waited, g.count())
		}
		if want := (cloud.TokenRequest{Pod: pod, ServiceAccount: "default", ExpirationSeconds: 3607}); g.asked[0] != want {
			t.Errorf("asked for %+v", g.asked[0])
		}
		if other, err := g.token(pod, "vault"); other != "token-2" || err != nil {
			t.Errorf("another audience: %q, %v", other, err)
		}
		<-g.k.Changed()
		if uids := g.k.Take(); len(uids) != 1 || uids[0] != "u1" {
			t.Errorf("changed %v", uids)
		}
		time.Sleep(2500 * time.Second) // less than 0.72 of the life
		synctest.Wait()
		if g.count() != 2 {
			t.Errorf("%d requests before the tokens are due", g.count())
		}
		time.Sleep(400 * time.Second) // 0.8 of the life are over
		synctest.Wait()
		if g.count() != 4 {
			t.Errorf("%d requests after four fifths of the tokens' life", g.count())
		}
		if token, err := g.token(pod, ""); err != nil || token != "token-3" && token != "token-4" {
			t.Errorf("%q, %v", token, err)
		}
		if uids := g.k.Take(); len(uids) != 1 {
			t.Errorf("nobody hears of the new token: %v", uids)
		}
	})
}

// TestLongTokensAreRenewedDaily as the kubelet does.
func TestLongTokensAreRenewedDaily(t *testing.T) {
	bubble(t, func(g *rig) {
		g.lifetime = 1 << 32
		if _, err := g.token(pod, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7*24*time.Hour + time.Hour)
		synctest.Wait()
		if n := g.count(); n != 8 {
			t.Errorf("%d requests in a week, want 8", n)
		}
	})
}

// TestOfflineReboot: the token is there without a relay, also when it has expired, which is told once.
func TestOfflineReboot(t *testing.T) {
	bubble(t, func(g *rig) {
		if _, err := g.token(pod, ""); err != nil {
			t.Fatal(err)
		}
		g.stop()
		g.set(false)
		g.start()
		token, expires, err := g.k.Token(t.Context(), pod, "default", "", 3607)
		if token != "token-1" || err != nil || time.Until(expires) < 3500*time.Second {
			t.Fatalf("%q, %v, %v", token, expires, err)
		}
		time.Sleep(3590 * time.Second)
		synctest.Wait()
		if uids := g.k.Take(); len(uids) != 0 {
			t.Errorf("told that the token has expired before it has: %v", uids)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if uids := g.k.Take(); len(uids) != 1 {
			t.Errorf("not told that the token has expired")
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if uids := g.k.Take(); len(uids) != 0 {
			t.Errorf("told again")
		}
		if token, expires, err := g.k.Token(t.Context(), pod, "default", "", 3607); token != "token-1" || err != nil || time.Since(expires) < 23*time.Hour {
			t.Errorf("%q, %v, %v", token, expires, err)
		}
		begin := time.Now()
		if token, err := g.token("pods/default/new/u2", ""); token != "" || !errors.Is(err, errOffline) || time.Since(begin) > 0 {
			t.Errorf("%q, %v after %v", token, err, time.Since(begin))
		}
		g.set(true)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for _, key := range []wire.Key{pod, "pods/default/new/u2"} {
			if token, err := g.token(key, ""); err != nil || token == "token-1" {
				t.Errorf("%s, once the link is back: %q, %v", key, token, err)
			}
		}
		if g.count() != 3 {
			t.Errorf("%d requests, want 3", g.count())
		}
	})
}

// TestClockThatHasGoneBack makes a token due that is dated after now.
func TestClockThatHasGoneBack(t *testing.T) {
	bubble(t, func(g *rig) {
		if _, err := g.token(pod, ""); err != nil {
			t.Fatal(err)
		}
		g.stop()
		for key, b := range g.store.records {
			var r record
			if err := json.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
			r.Received = time.Now().Add(50 * 365 * 24 * time.Hour)
			g.store.records[key], _ = json.Marshal(r)
		}
		g.start()
		if token, err := g.token(pod, ""); token != "token-1" || err != nil {
			t.Errorf("%q, %v", token, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if token, err := g.token(pod, ""); token != "token-2" || err != nil || g.count() != 2 {
			t.Errorf("%q, %v, %d requests", token, err, g.count())
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, func(g *rig) {
		refusal := cloud.Refusal{Code: cloud.CodeNoAccount, Message: `service account "default/default" does not exist`, Remedy: "create it"}
		g.answer = func(cloud.TokenRequest, int) (any, int) { return refusal, refusal.Code.Status() }
		if _, err := g.token(pod, ""); err == nil || err.Error() != `service account "default/default" does not exist: create it` {
			t.Errorf("%v", err)
		}
		begin := time.Now()
		for range 100 { // whoever asks again meanwhile hears the same at once, and causes nothing
			if _, err := g.token(pod, ""); err == nil {
				t.Fatal("a token")
			}
		}
		if time.Since(begin) > 0 || g.count() != 1 {
			t.Errorf("%v, %d requests", time.Since(begin), g.count())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := g.count(); n < 15 || n > 30 {
			t.Errorf("%d requests in an hour", n)
		}
		if n := strings.Count(g.logText(), "cannot be had"); n != 1 {
			t.Errorf("%d lines in the log:\n%s", n, g.logText())
		}
		g.mu.Lock()
		g.answer = nil
		g.mu.Unlock()
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if token, err := g.token(pod, ""); token == "" || err != nil {
			t.Errorf("%q, %v", token, err)
		}
	})
}

// TestRetryAfter: a relay that is busy says when to come again.
func TestRetryAfter(t *testing.T) {
	bubble(t, func(g *rig) {
		g.answer = func(_ cloud.TokenRequest, n int) (any, int) {
			if n == 1 {
				return cloud.Refusal{Code: cloud.CodeBusy, Message: "too many requests", RetryAfter: 60}, http.StatusTooManyRequests
			}
			return cloud.Token{Token: "x", Lifetime: 3600}, http.StatusOK
		}
		_, _ = g.token(pod, "")
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if g.count() != 1 {
			t.Errorf("%d requests within the minute", g.count())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if g.count() != 2 {
			t.Errorf("%d requests after it", g.count())
		}
	})
}

func TestForget(t *testing.T) {
	bubble(t, func(g *rig) {
		for _, key := range []wire.Key{pod, "pods/default/other/u2"} {
			if _, err := g.token(key, ""); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // until they are kept
		if g.store.len() != 2 {
			t.Fatalf("%d tokens are kept", g.store.len())
		}
		g.k.Forget("u1")
		if g.store.len() != 1 {
			t.Errorf("%d tokens are kept after one pod is gone", g.store.len())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, r := range g.asked[2:] {
			if r.Pod == pod {
				t.Error("asked for a token of a pod that is gone")
			}
		}
		g.stop()
		g.want = func(uid string) bool { return uid != "u2" } // it was deleted while the agent did not run
		g.start()
		if g.store.len() != 0 {
			t.Errorf("%d tokens are kept that belong to nobody", g.store.len())
		}
	})
}

// TestForgottenWhileAsked leaves nothing behind.
func TestForgottenWhileAsked(t *testing.T) {
	bubble(t, func(g *rig) {
		go func() { _, _ = g.token(pod, "") }()
		time.Sleep(50 * time.Millisecond)
		g.k.Forget("u1")
		time.Sleep(time.Second)
		synctest.Wait()
		if g.store.len() != 0 || len(g.k.Take()) != 0 {
			t.Errorf("%d tokens are kept of a pod that is gone", g.store.len())
		}
	})
}

func TestManyPodsAtOnce(t *testing.T) {
	bubble(t, func(g *rig) {
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if token, err := g.token(wire.NewKey(wire.KindPod, "default", fmt.Sprint("p", i), fmt.Sprint("u", i)), ""); token == "" || err != nil {
					t.Errorf("%q, %v", token, err)
				}
			})
		}
		wg.Wait()
		if g.most > workers || g.count() != 40 {
			t.Errorf("%d requests at once, %d in all", g.most, g.count())
		}
	})
}

// TestStoreThatCannotWrite does not keep the pod from its token.
func TestStoreThatCannotWrite(t *testing.T) {
	bubble(t, func(g *rig) {
		g.store.fails = errors.New("no space left on device")
		if token, err := g.token(pod, ""); token != "token-1" || err != nil {
			t.Errorf("%q, %v", token, err)
		}
		g.stop()
		if !strings.Contains(g.logText(), "no space left on device") {
			t.Error("nobody hears of it")
		}
	})
}

func TestDamagedRecord(t *testing.T) {
	bubble(t, func(g *rig) {
		g.stop()
		g.store.records["token/u1/0011"] = []byte("{")
		g.store.records["token/u1/0022"] = []byte(`{"pod":"pods/default/web/u1","token":"x","lifetime":5}`) // under another's key
		g.start()
		if g.store.len() != 0 {
			t.Errorf("%v are kept", g.store.records)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"pod":"pods/default/web/u1","serviceAccount":"default","expirationSeconds":3607,"token":"x","received":"2026-11-23T04:00:00Z","lifetime":3607}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b, time.Unix(1e9, 0))
		if err == nil && (e.token == "" || e.pod.UID() == "") {
			t.Errorf("%q gives %+v", b, e)
		}
	})
}
