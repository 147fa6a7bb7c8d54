package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

// world is a cluster with two relays and a gateway, gw-1, which is connected to relay a.
type world struct {
	t       *testing.T
	skerry  *authority // Skerry's CA
	cluster *authority // the API server's
	client  *fake.Clientset
	relays  map[string]*testRelay
	cert    string // what relays show, and its key: files
	key     string
	agent   *httptest.Server
	reviews atomic.Int64
	asked   sync.Map // what was reviewed

	mu       sync.Mutex
	seen     []*http.Request // by the agent
	sessions []net.Conn      // that it has
}

type testRelay struct {
	w         *world
	name      string
	srv       *Server
	connected atomic.Bool
	stop      func()
}

func (r *testRelay) Connected(node string) bool { return node == "gw-1" && r.connected.Load() }

func (r *testRelay) Dial(ctx context.Context, node, service string) (net.Conn, error) {
	if !r.Connected(node) || service != Service {
		return nil, fmt.Errorf("node %s is not connected", node)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", r.w.agent.Listener.Addr().String())
}

func (w *world) NodeOfPod(namespace, name string) (string, bool) {
	switch namespace + "/" + name {
	case "default/web":
		return "gw-1", true
	case "default/away":
		return "gw-2", true
	case "default/new":
		return "", true
	}
	return "", false
}

func (w *world) HasNode(name string) bool { return name == "gw-1" || name == "gw-2" || name == "gw-3" }

func newWorld(t *testing.T, edit ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, skerry: newAuthority(t), cluster: newAuthority(t), relays: map[string]*testRelay{}}
	lease := func(node, relay string) *coordinationv1.Lease {
		at := metav1.NewMicroTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: leaseSpace, Name: node, Annotations: map[string]string{relayNote: relay}},
			Spec:       coordinationv1.LeaseSpec{RenewTime: &at},
		}
	}
	w.client = fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: publishedNamespace, Name: publishedName}, Data: map[string]string{
			publishedKey: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.cluster.cert.Raw})),
		}},
		lease("gw-1", "a"), lease("gw-2", "gone"),
	)
	w.client.PrependReactor("create", "tokenreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		w.reviews.Add(1)
		r := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if name, ok := strings.CutPrefix(r.Spec.Token, "token-of-"); ok {
			r.Status.Authenticated, r.Status.User.Username = true, name
		}
		return true, r, nil
	})
	w.client.PrependReactor("create", "subjectaccessreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		w.reviews.Add(1)
		r := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		what := r.Spec.ResourceAttributes
		w.asked.Store(fmt.Sprintf("%s %s %s/%s %s", r.Spec.User, what.Verb, what.Resource, what.Subresource, what.Name), true)
		switch r.Spec.User {
		case "apiserver":
			r.Status.Allowed = true
		case "metrics":
			r.Status.Allowed = what.Subresource == "metrics" && what.Verb == "get"
		case "broken":
			return true, nil, errors.New("webhook down")
		}
		return true, r, nil
	})
	w.cert, w.key = files(t, t.TempDir(), w.cluster.issue(func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"*.edge.example"}
	}))
	w.agent = httptest.NewServer(http.HandlerFunc(w.serveAgent))
	t.Cleanup(w.agent.Close)
	for _, name := range []string{"a", "b"} {
		w.relays[name] = w.start(name, edit...)
	}
	w.relays["a"].connected.Store(true)
	return w
}

func (w *world) start(name string, edit ...func(*Options)) *testRelay {
	w.t.Helper()
	r := &testRelay{w: w, name: name}
	id := Identity{Certificate: w.skerry.relay(name), Roots: w.skerry.pool()}
	o := Options{
		Name: name, Listen: "127.0.0.1:0", Client: w.client, Pods: w, Domain: "edge.example", CertFile: w.cert, KeyFile: w.key,
		Sessions: func() Sessions { return r },
		Peer: func(relay string) Peer {
			p := w.relays[relay]
			if p == nil {
				return Peer{}
			}
			return Peer{Address: p.srv.listener.Addr().String(), Alive: true}
		},
		Identity: func() (Identity, error) { return id, nil },
	}
	for _, f := range edit {
		f(&o)
	}
	var err error
	if r.srv, err = New(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.srv.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("relay %s: %v", name, err)
		}
	})
	w.t.Cleanup(r.stop)
	for end := time.Now().Add(10 * time.Second); r.srv.users.roots.Load() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("the CA was not read")
		}
	}
	return r
}

// serveAgent says what it sees, or becomes an echo.
func (w *world) serveAgent(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.seen = append(w.seen, r)
	w.mu.Unlock()
	if r.URL.Query().Has("endless") {
		for block := make([]byte, 64<<10); ; {
			if _, err := rw.Write(block); err != nil {
				return
			}
		}
	}
	if r.Header.Get("Upgrade") == "" {
		fmt.Fprintf(rw, "agent: %s %s", r.Method, r.URL)
		return
	}
	c, brw, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	w.mu.Lock()
	w.sessions = append(w.sessions, c)
	w.mu.Unlock()
	_, _ = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: " + r.Header.Get("Want-Protocol") + "\r\n\r\n"))
	_, _ = io.Copy(c, brw)
}

// lease has a relay renew a node's Lease.
func (w *world) lease(node, relay string, at time.Time) {
	w.t.Helper()
	leases := w.client.CoordinationV1().Leases(leaseSpace)
	l, err := leases.Get(w.t.Context(), node, metav1.GetOptions{})
	if err == nil {
		renewed := metav1.NewMicroTime(at)
		l.Annotations[relayNote], l.Spec.RenewTime = relay, &renewed
		_, err = leases.Update(w.t.Context(), l, metav1.UpdateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) last() *http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[len(w.seen)-1]
}

// ask is a request to a relay.
type ask struct {
	relay, method, path, token, host string
	cert                             *tls.Certificate
	header                           map[string]string
	as                               string // TLS server name; "": none, as an API server that dials an IP address
}

func (w *world) config(a ask) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.cluster.pool(), ServerName: a.as}
	if a.as == peerName {
		config.RootCAs = w.skerry.pool()
	}
	if a.cert != nil {
		config.Certificates = []tls.Certificate{*a.cert}
	}
	return config
}

func (w *world) at(a ask) string {
	if a.relay == "" {
		a.relay = "a"
	}
	return w.relays[a.relay].srv.listener.Addr().String()
}

// do returns status 0 and the error if the connection is refused.
func (w *world) do(a ask) (int, string) {
	w.t.Helper()
	if a.method == "" {
		a.method = http.MethodGet
	}
	t := &http.Transport{TLSClientConfig: w.config(a), DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(w.t.Context(), a.method, "https://"+w.at(a)+a.path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Host = a.host
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	for k, v := range a.header {
		req.Header.Set(k, v)
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (w *world) expect(a ask, status int, text string) {
	w.t.Helper()
	if got, body := w.do(a); got != status || !strings.Contains(body, text) {
		w.t.Errorf("%+v: %d %q, want %d with %q", a, got, body, status, text)
	}
}

const logs = "/containerLogs/default/web/main?follow=true"

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not %s", what)
		}
	}
}
