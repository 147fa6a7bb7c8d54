package kubelet

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
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

// authority is a CA.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	pair := a.issue(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
	a.cert, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

func (a *authority) issue(edit func(*x509.Certificate)) *tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	edit(tmpl)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) relay(name string) *tls.Certificate {
	dns, uri := PeerNames(name)
	u, err := url.Parse(uri)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.issue(func(c *x509.Certificate) { c.DNSNames, c.URIs = []string{dns}, []*url.URL{u} })
}

func (a *authority) named(cn string, org ...string) *tls.Certificate {
	return a.issue(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: cn, Organization: org} })
}

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
			return Peer{Address: p.srv.Addr().String(), Alive: true}
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
	return w.relays[a.relay].srv.Addr().String()
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

// TestWhoAsks: the API server's certificate and reviewed tokens open the port, and nothing else does.
func TestWhoAsks(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver", "system:masters")
	w.expect(ask{path: logs, cert: api}, 200, "agent: GET "+logs)
	w.expect(ask{path: logs}, 401, "no client certificate and no bearer token")
	w.expect(ask{path: logs, cert: w.skerry.named("apiserver")}, 401, "is not good here")
	w.expect(ask{path: logs, cert: w.cluster.issue(func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtKeyUsage = "apiserver", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})}, 401, "is not good here")
	w.expect(ask{path: logs, cert: w.cluster.issue(func(c *x509.Certificate) {
		c.Subject.CommonName, c.NotAfter = "apiserver", time.Now().Add(-time.Minute)
	})}, 401, "is not good here")
	w.expect(ask{path: logs, token: "token-of-apiserver"}, 200, "agent: GET")
	if r := w.last(); r.Header.Get("Authorization") != "" {
		t.Errorf("the gateway was given the token: %q", r.Header)
	}
	w.expect(ask{path: logs, token: "forged"}, 401, "not valid")
	w.expect(ask{path: logs, token: "token-of-nobody"}, 403, `user "nobody" may not get nodes/proxy of gw-1`)
	w.expect(ask{path: logs, token: "token-of-broken"}, 500, "cannot ask the API server")
	before := w.reviews.Load()
	w.expect(ask{path: logs, token: "token-of-apiserver"}, 200, "agent: GET")
	w.expect(ask{path: logs, token: "forged"}, 401, "not valid")
	w.expect(ask{path: logs, token: "token-of-nobody"}, 403, "may not")
	if n := w.reviews.Load() - before; n != 0 {
		t.Errorf("%d reviews of what had just been reviewed", n)
	}
}

// TestWhatTheyMay holds the reviews to the kubelet's.
func TestWhatTheyMay(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	for path, review := range map[string]string{
		"GET /nodes/gw-1/stats/summary":         "apiserver get nodes/stats gw-1",
		"GET /nodes/gw-1/metrics/resource":      "apiserver get nodes/metrics gw-1",
		"GET /nodes/gw-1/metrics":               "apiserver get nodes/metrics gw-1",
		"GET /nodes/gw-1/metricsandmore":        "apiserver get nodes/proxy gw-1",
		"GET /nodes/gw-1/logs/syslog":           "apiserver get nodes/log gw-1",
		"GET /nodes/gw-1/pods":                  "apiserver get nodes/pods gw-1",
		"GET /nodes/gw-1/healthz":               "apiserver get nodes/healthz gw-1",
		"GET /containerLogs/default/web/main":   "apiserver get nodes/proxy gw-1",
		"POST /exec/default/web/main":           "apiserver create nodes/proxy gw-1",
		"GET /exec/default/web/main":            "apiserver get nodes/proxy gw-1",
		"DELETE /attach/default/web/main":       "apiserver delete nodes/proxy gw-1",
		"PUT /portForward/default/web":          "apiserver update nodes/proxy gw-1",
		"PATCH /portForward/default/web/uid":    "apiserver patch nodes/proxy gw-1",
		"GET /nodes/gw-1/nodes/gw-2/metrics":    "apiserver get nodes/proxy gw-1",
		"GET /nodes/gw-1/containerLogs/x/y/z":   "apiserver get nodes/proxy gw-1",
		"GET /nodes/gw-1/stats/../exec/x/y/z":   "",
		"GET /nodes/gw-1/stats/%2e%2e/exec/a/b": "",
		"GET /nodes/gw-1//stats/summary":        "",
	} {
		w.asked.Clear()
		method, at, _ := strings.Cut(path, " ")
		status, body := w.do(ask{method: method, path: at, cert: api})
		if review == "" {
			if status != 400 {
				t.Errorf("%s: %d %s", path, status, body)
			}
			continue
		}
		if _, ok := w.asked.Load(review); !ok || status != 200 {
			t.Errorf("%s: %d %s; %s was not reviewed", path, status, body, review)
		}
		w.relays["a"].srv.access.kept.clear()
	}
	w.expect(ask{path: "/nodes/gw-1/metrics/resource", token: "token-of-metrics"}, 200, "agent: GET /metrics/resource")
	w.expect(ask{path: "/nodes/gw-1/stats/summary", token: "token-of-metrics"}, 403, "nodes/stats")
	w.expect(ask{path: "/containerLogs/nowhere/secret/main", token: "token-of-metrics"}, 403, "of any node")
}

// TestWhichNode: by the pod, by name, or said by people.
func TestWhichNode(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	w.expect(ask{path: "/stats/summary", cert: api}, 404, "ask for /nodes/NAME/stats/summary")
	w.expect(ask{path: "/nodes/gw-1/stats/summary?only_cpu=true", cert: api}, 200, "agent: GET /stats/summary?only_cpu=true")
	w.expect(ask{path: "/stats/summary", cert: api, as: "gw-1.edge.example"}, 200, "agent: GET /stats/summary")
	w.expect(ask{path: "/stats/summary", cert: api, host: "gw-1.edge.example:10250"}, 200, "agent: GET /stats/summary")
	w.expect(ask{path: "/stats/summary", cert: api, host: "gw-9.edge.example"}, 404, `no node \"gw-9\"`)
	w.expect(ask{path: "/nodes/gw-9/pods", cert: api}, 404, `no node \"gw-9\"`)
	w.expect(ask{path: "/containerLogs/default/none/main", cert: api}, 404, "pod default/none does not exist")
	w.expect(ask{path: "/containerLogs/default/new/main", cert: api}, 409, "bound to no node yet")
	w.expect(ask{path: "/containerLogs/default", cert: api}, 404, "as a whole")
	// What kubectl shows of a refusal is the message of a Status.
	_, body := w.do(ask{path: "/stats/summary", cert: api})
	var status metav1.Status
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	if status.Kind != "Status" || status.APIVersion != "v1" || status.Status != "Failure" || status.Code != 404 || status.Reason != metav1.StatusReasonNotFound || !strings.HasPrefix(status.Message, "/stats/summary is about a node as a whole") {
		t.Errorf("%+v", status)
	}
	if _, body := w.do(ask{path: "/containerLogs/default/none/main", cert: api}); !strings.HasPrefix(body, "pod default/none") {
		t.Errorf("the API server quotes %q", body)
	}
}

// TestWhichRelay: one hop, and words for people where there is no way.
func TestWhichRelay(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	w.expect(ask{relay: "b", path: logs, cert: api}, 200, "agent: GET "+logs)
	if r := w.last(); r.Header.Get(nodeHeader) != "" {
		t.Errorf("the gateway sees what relays tell each other: %q", r.Header)
	}
	w.expect(ask{path: "/containerLogs/default/away/main", cert: api}, 503, "relay gone, which had it, is gone; its last sign of life was at 2026-01-02T03:04:05Z")
	w.expect(ask{path: "/nodes/gw-3/pods", cert: api}, 503, "never been connected")
	w.relays["a"].connected.Store(false)
	w.expect(ask{path: logs, cert: api}, 503, "node gw-1 is not connected: it was, to relay a; its last sign of life was at 2026-01-02T03:04:05Z")
	w.expect(ask{relay: "b", path: logs, cert: api}, 503, "it is changing relays")
	w.relays["a"].stop()
	w.expect(ask{relay: "b", path: logs, cert: api}, 503, "relay b cannot reach node gw-1")
}

// TestOnlyRelaysArePeers: what the relays' CA has signed for others does not open the door between relays, and the header that names a node
// counts for nothing elsewhere.
func TestOnlyRelaysArePeers(t *testing.T) {
	w := newWorld(t)
	node, _ := url.Parse("skerry://node/gw-1")
	peer := map[string]string{nodeHeader: "gw-1"}
	w.expect(ask{as: peerName, path: "/pods", cert: w.skerry.relay("b"), header: peer}, 200, "agent: GET /pods")
	for what, cert := range map[string]*tls.Certificate{
		"a gateway": w.skerry.issue(func(c *x509.Certificate) {
			c.Subject, c.URIs = pkix.Name{CommonName: "system:node:gw-1", Organization: []string{"system:nodes"}}, []*url.URL{node}
		}),
		"a relay's name of the cluster's CA": w.cluster.relay("b"),
		"nobody":                             nil,
	} {
		if status, body := w.do(ask{as: peerName, path: "/pods", cert: cert, header: peer}); status != 0 {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	// With the right certificate, but not at that door, it is nobody.
	w.expect(ask{path: "/pods", cert: w.skerry.relay("b"), header: peer}, 401, "is not good here")
	w.expect(ask{path: "/pods", cert: w.cluster.named("apiserver"), header: peer}, 404, "as a whole")
	w.expect(ask{as: peerName, path: "/pods", cert: w.skerry.relay("b"), header: map[string]string{nodeHeader: "gw-2"}}, 503, "changing relays")
}

// upgrade opens a stream to the agent's echo.
func (w *world) upgrade(a ask) (net.Conn, *bufio.Reader) {
	w.t.Helper()
	c, err := tls.Dial("tcp", w.at(a), w.config(a))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	fmt.Fprint(c, "POST /exec/default/web/main?command=sh HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nWant-Protocol: "+a.header["Want-Protocol"]+"\r\nContent-Length: 0\r\n\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		w.t.Fatalf("%v %v", resp, err)
	}
	return c, in
}

func echo(c net.Conn, in *bufio.Reader, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(in, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

func (w *world) idle(r *testRelay) bool { return r.srv.meter.open.Load() == 0 }

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not %s", what)
		}
	}
}

// TestStreams: bytes go both ways through one relay and through two, and each end of a stream ends all of it.
func TestStreams(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	for _, name := range []string{"a", "b"} {
		c, in := w.upgrade(ask{relay: name, cert: api})
		for i := range 20 {
			if err := echo(c, in, strings.Repeat(fmt.Sprint(i), 5000)); err != nil {
				t.Fatal(name, err)
			}
		}
		_ = c.Close()
		w.until("over when the client is gone", func() bool { return w.idle(w.relays["a"]) && w.idle(w.relays["b"]) })

		c, in = w.upgrade(ask{relay: name, cert: api})
		w.mu.Lock()
		_ = w.sessions[len(w.sessions)-1].Close()
		w.mu.Unlock()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("through %s: the agent is gone, and the client hears %v", name, err)
		}
		w.until("over when the agent is gone", func() bool { return w.idle(w.relays["a"]) && w.idle(w.relays["b"]) })
	}
	c, in := w.upgrade(ask{relay: "b", cert: api})
	w.relays["a"].stop() // in the middle
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("relay a is gone, and the client hears %v", err)
	}
	w.until("over when a relay is gone", func() bool { return w.idle(w.relays["b"]) })
}

// TestIdleStreamEnds: a client that hangs with its connection open is let go.
func TestIdleStreamEnds(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Idle = 100 * time.Millisecond })
	c, in := w.upgrade(ask{relay: "b", cert: w.cluster.named("apiserver")})
	if err := echo(c, in, "hello"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client hears %v", err)
	}
	w.until("over", func() bool { return w.idle(w.relays["a"]) && w.idle(w.relays["b"]) })
}

// TestServingCertificateIsReadAnew: a Secret that is renewed needs no restart, and one that is half written does no harm.
func TestServingCertificateIsReadAnew(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	write := func(c *tls.Certificate, at time.Time) {
		files(t, dir, c)
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, second := a.named("first"), a.named("second")
	write(first, time.Unix(1000, 0))
	c, err := newServingCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	now := func() string {
		c.looked = time.Time{}
		got, err := c.get()
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.Subject.CommonName
	}
	if n := now(); n != "first" {
		t.Error(n)
	}
	if err := os.WriteFile(filepath.Join(dir, "tls.key"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := now(); n != "first" {
		t.Error(n)
	}
	write(second, time.Unix(2000, 0))
	if n := now(); n != "second" {
		t.Error(n)
	}
	if _, err := newServingCertificate(filepath.Join(dir, "none"), filepath.Join(dir, "tls.key"), nil); err == nil {
		t.Error("a missing file was accepted")
	}
}

// files writes a certificate and its key.
func files(t *testing.T, dir string, c *tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "EC PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// clear forgets all.
func (r *remembered[K, V]) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.has)
}

// TestBrokenSessionIsTold: kubectl takes a session that ends without a word for one that ended well.
func TestBrokenSessionIsTold(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	whole := string([]byte{0, 0, 0, 3, 0, 0, 0, 5}) + "hello" // a data frame of stdout
	told := string([]byte{0, 0, 0, 1, 1, 0, 0, 2}) + "{}"     // the runtime's own status
	for _, relay := range []string{"a", "b"} {
		for what, c := range map[string]struct {
			protocol, sent string
			want           bool
		}{
			"in the middle":                        {"v4.channel.k8s.io", whole, true},
			"before anything":                      {"v5.channel.k8s.io", "", true},
			"after the end":                        {"v4.channel.k8s.io", whole + told, false},
			"within a frame":                       {"v4.channel.k8s.io", whole[:10], false},
			"within a frame's head":                {"v4.channel.k8s.io", whole + "\x00", false},
			"of a protocol that tells errors only": {"v2.channel.k8s.io", whole, false},
		} {
			conn, in := w.upgrade(ask{relay: relay, cert: api, header: map[string]string{"Want-Protocol": c.protocol}})
			if err := echo(conn, in, c.sent); err != nil {
				t.Fatal(relay, what, err)
			}
			w.mu.Lock()
			_ = w.sessions[len(w.sessions)-1].Close()
			w.mu.Unlock()
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			rest, _ := io.ReadAll(in)
			_ = conn.Close()
			if got := len(rest) > 8 && rest[3] == errorStream && rest[4] == spdyFin && int(rest[7]) == (len(rest)-8)%256 && strings.Contains(string(rest), `"status":"Failure"`) &&
				strings.Count(string(rest), "has lost the connection to node gw-1") == 1; got != c.want || !c.want && len(rest) > 0 {
				t.Errorf("through %s, %s: %q", relay, what, rest)
			}
		}
	}
}
