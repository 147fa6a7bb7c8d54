package enroll

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ktesting "k8s.io/client-go/testing"

	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/source"
)

func TestJoin(t *testing.T) {
	r := startRelay(t)
	dir := t.TempDir()
	id, err := r.join(t, r.token(t, "gw-1"), dir)
	if err != nil {
		t.Fatal(err)
	}
	if id.Node() != "gw-1" {
		t.Errorf("node = %q", id.Node())
	}
	if life := time.Until(id.NotAfter()); life < DefaultLifetime-time.Minute || life > DefaultLifetime {
		t.Errorf("the certificate is valid for %s, want %s", life, DefaultLifetime)
	}
	loaded, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := clientCertificateSeen(t, r.ca, loaded)
	if node, err := join.NodeOf(got); err != nil || node != "gw-1" {
		t.Errorf("NodeOf = %q, %v", node, err)
	}
	if len(got.ExtKeyUsage) != 1 || got.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || got.IsCA || got.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("usages: ext %v, key %v, CA %v", got.ExtKeyUsage, got.KeyUsage, got.IsCA)
	}
}

// clientCertificateSeen connects with id as the link does, and returns what the relay's side verified.
func clientCertificateSeen(t *testing.T, ca *CA, id *identity.Identity) *x509.Certificate {
	t.Helper()
	cert, err := ca.IssueServing([]string{"relay.example", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", ca.ServerTLS(cert))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	seen := make(chan *x509.Certificate, 1)
	go func() {
		defer close(seen)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
		tc := conn.(*tls.Conn)
		if err := tc.Handshake(); err != nil || len(tc.ConnectionState().VerifiedChains) == 0 {
			return
		}
		seen <- tc.ConnectionState().VerifiedChains[0][0]
	}()
	cfg, err := id.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", ln.Addr().String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := <-seen
	if c == nil {
		t.Fatal("the relay verified no client certificate")
	}
	return c
}

func TestRefusals(t *testing.T) {
	now := time.Now()
	var revoked sync.Map
	r := startRelay(t, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.Revoked = revokedIf(func(n string) bool { _, ok := revoked.Load(n); return ok })
	})
	deleted := r.token(t, "gw-1")
	if err := r.tokens.Delete(t.Context(), deleted.ID); err != nil {
		t.Fatal(err)
	}
	guessed := r.token(t, "gw-1")
	guessed.Secret[0] ^= 1
	forged := r.token(t, "gw-1")
	forged.Node = "gw-2" // the gateway's own check passes: the relay must not
	expired := r.token(t, "gw-1")
	used := r.token(t, "gw-1")
	if _, err := r.join(t, used, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	banned := r.token(t, "gw-9")
	revoked.Store("gw-9", true)

	for _, c := range []struct {
		name  string
		token join.Token
		later time.Duration
		code  join.Code
		says  string
	}{
		{"deleted", deleted, 0, join.CodeUnknownToken, "skerryctl token create"},
		{"wrong secret", guessed, 0, join.CodeUnknownToken, "skerryctl token create"},
		{"other node's", forged, 0, join.CodeWrongNode, `for node "gw-1", not for "gw-2"`},
		{"used by another key", used, 0, join.CodeUsed, "another key"},
		{"revoked node", banned, 0, join.CodeRevoked, "skerryctl node restore gw-9"},
		{"expired", expired, time.Hour, join.CodeExpired, "expired at"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now = now.Add(c.later)
			dir := t.TempDir()
			_, err := r.join(t, c.token, dir)
			var refusal *join.Refusal
			if !errors.As(err, &refusal) || refusal.Code != c.code {
				t.Fatalf("err = %v, want code %s", err, c.code)
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("message %q: want one line with %q", err, c.says)
			}
			if _, err := identity.Load(dir); !errors.Is(err, identity.ErrNotEnrolled) {
				t.Errorf("after a refusal Load = %v", err)
			}
		})
	}
}

// A gateway that lost its answer comes again with the same key, and is served until the token expires.
func TestSameKeyMayComeAgain(t *testing.T) {
	r := startRelay(t)
	tok, dir := r.token(t, "gw-1"), t.TempDir()
	first, err := r.join(t, tok, dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.join(t, tok, dir)
	if err != nil {
		t.Fatalf("joining again with the same token and folder: %v", err)
	}
	if again.NotAfter().Before(first.NotAfter()) {
		t.Error("the second certificate is older than the first")
	}
}

// The server takes nothing but the key from the request.
func TestServerFixesNames(t *testing.T) {
	r := startRelay(t)
	tok := r.token(t, "gw-1")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "system:admin", Organization: []string{"system:masters"}},
		DNSNames: []string{join.ServerName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := json.Marshal(join.Request{TokenID: tok.ID, Secret: tok.Secret[:], Node: "gw-1", CSR: csr})
	resp, _, err := r.enroll(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(resp.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Subject.String(); got != "CN=system:node:gw-1,O=system:nodes" {
		t.Errorf("subject = %s", got)
	}
	if len(c.DNSNames)+len(c.IPAddresses) != 0 || len(c.URIs) != 1 || c.URIs[0].String() != "skerry://node/gw-1" {
		t.Errorf("alternative names: %v %v %v", c.DNSNames, c.IPAddresses, c.URIs)
	}
}

// A node's certificate is no relay's: what a stolen gateway can do ends with being that gateway.
func TestNodeCertificateCannotServe(t *testing.T) {
	ca, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.issueNode("gw-1", key.Public(), time.Now(), time.Time{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err == nil {
		t.Error("a node's certificate verifies for server authentication")
	}
}

func TestBadRequests(t *testing.T) {
	r := startRelay(t)
	tok := r.token(t, "gw-1")
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	good, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	other, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384)
	unproven := bytes.Clone(good)
	unproven[len(unproven)-1] ^= 1
	req := func(edit func(*join.Request)) string {
		q := join.Request{TokenID: tok.ID, Secret: tok.Secret[:], Node: "gw-1", CSR: good}
		edit(&q)
		b, _ := json.Marshal(q)
		return string(b)
	}
	for name, c := range map[string]struct {
		body string
		code join.Code
	}{
		"not JSON":        {"hello", join.CodeBadRequest},
		"empty":           {"{}", join.CodeBadRequest},
		"path in token":   {req(func(q *join.Request) { q.TokenID = "../x" }), join.CodeBadRequest},
		"short secret":    {req(func(q *join.Request) { q.Secret = q.Secret[:31] }), join.CodeBadRequest},
		"bad node":        {req(func(q *join.Request) { q.Node = "GW_1" }), join.CodeBadRequest},
		"bad CSR":         {req(func(q *join.Request) { q.CSR = []byte{1} }), join.CodeBadRequest},
		"unproven key":    {req(func(q *join.Request) { q.CSR = unproven }), join.CodeBadProof},
		"other curve":     {req(func(q *join.Request) { q.CSR = other }), join.CodeBadKey},
		"too large a CSR": {req(func(q *join.Request) { q.CSR = make([]byte, join.MaxBody) }), join.CodeBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequest(http.MethodPost, join.Path, strings.NewReader(c.body)))
			var got join.Refusal
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Code != c.code || w.Code != c.code.Status() {
				t.Errorf("answer %d %s, want %s", w.Code, w.Body, c.code)
			}
		})
	}
	info, err := r.tokens.List(t.Context())
	if err != nil || len(info) != 1 || info[0].BoundTo != "" {
		t.Errorf("bad requests bound the token: %+v, %v", info, err)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, join.Path, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET = %d", w.Code)
	}
}

// Two relays, one token, many keys at once: exactly one key gets a certificate.
func TestConcurrentBinding(t *testing.T) {
	c := cluster(t)
	ca, _, err := InitCA(t.Context(), c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	relays := [2]*Server{NewServer(Options{Client: c, CA: ca.Always}), NewServer(Options{Client: c, CA: ca.Always})}
	tok, _, err := NewTokens(c, nil).Create(t.Context(), ca, "gw-1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	const keys = 8
	results := make([]error, keys)
	var wg sync.WaitGroup
	for i := range keys {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		csr, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		body, _ := json.Marshal(join.Request{TokenID: tok.ID, Secret: tok.Secret[:], Node: "gw-1", CSR: csr})
		wg.Go(func() { _, _, results[i] = relays[i%2].enroll(t.Context(), body) })
	}
	wg.Wait()
	won := 0
	for _, err := range results {
		var refusal *join.Refusal
		switch {
		case err == nil:
			won++
		case !errors.As(err, &refusal) || refusal.Code != join.CodeUsed:
			t.Errorf("a loser got %v, want %s", err, join.CodeUsed)
		}
	}
	if won != 1 {
		t.Errorf("%d keys got a certificate with one token", won)
	}
}

// While Kubernetes does not answer, the gateway is told to come again, and the token stays good.
func TestAPIServerAway(t *testing.T) {
	r := startRelay(t)
	tok, dir := r.token(t, "gw-1"), t.TempDir()
	var mu sync.Mutex
	failures := 2
	r.client.PrependReactor("get", "secrets", func(ktesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		failures--
		return failures >= 0, nil, apierrors.NewServiceUnavailable("etcd is away")
	})
	if _, err := r.join(t, tok, dir); err != nil {
		t.Fatalf("join did not outlast two failures: %v", err)
	}
}

func TestSecretsHoldHashesOnly(t *testing.T) {
	r := startRelay(t)
	tok := r.token(t, "gw-1")
	s, err := r.client.CoreV1().Secrets(Namespace).Get(t.Context(), secretPrefix+tok.ID, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range s.Data {
		if bytes.Contains(v, tok.Secret[:]) || strings.Contains(string(v), fmt.Sprintf("%x", tok.Secret)) {
			t.Errorf("data[%s] holds the secret", k)
		}
	}
	if want := sha256.Sum256(tok.Secret[:]); string(s.Data[fieldHash]) != fmt.Sprintf("%x", want) {
		t.Error("the hash is not the secret's")
	}
}

func TestRateLimit(t *testing.T) {
	var log bytes.Buffer
	r := startRelay(t, func(o *Options) {
		o.PerSource = 1
		o.Now = func() time.Time { return time.Unix(1e9, 0) }
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	post := func(from string) int {
		q := httptest.NewRequest(http.MethodPost, join.Path, strings.NewReader("{}"))
		q.RemoteAddr = from
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		return w.Code
	}
	for i := range 20 {
		if code := post("192.0.2.1:1000"); code != http.StatusBadRequest {
			t.Fatalf("request %d of the burst = %d", i, code)
		}
	}
	log.Reset()
	if code := post("192.0.2.1:1001"); code != http.StatusTooManyRequests {
		t.Errorf("beyond the burst = %d", code)
	}
	for range 100 {
		post("192.0.2.1:1002")
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "source=192.0.2.1 code=too_many_requests") {
		t.Errorf("a flood is told of in %d lines, want one that names its source: %s", n, log.String())
	}
	if code := post("192.0.2.2:1000"); code != http.StatusBadRequest {
		t.Errorf("another source = %d", code)
	}
	if a, b := source.Of("[2001:db8::1]:1"), source.Of("[2001:db8::ffff]:1"); a != b {
		t.Errorf("one /64 counts as %s and %s", a, b)
	}
	l := newLimiter(1, 1)
	for i := range 3 * maxSources {
		l.allow(strconv.Itoa(i), time.Unix(1e9, 0))
	}
	if len(l.sources) > maxSources {
		t.Errorf("the limiter remembers %d sources", len(l.sources))
	}
}

// TestSlowSendersKeepNobodyOut: anybody may connect to this port.
func TestSlowSendersKeepNobodyOut(t *testing.T) {
	r := startRelay(t)
	roots := x509.NewCertPool()
	roots.AddCert(r.ca.Certificate())
	for range 2 * cap(r.slots) {
		conn, err := tls.Dial("tcp", r.address, &tls.Config{RootCAs: roots, ServerName: join.ServerName, MinVersion: tls.VersionTLS13})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n", join.Path)
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			t.Fatalf("the body is not awaited: %q, %v", line, err)
		}
	}
	if _, err := r.join(t, r.token(t, "gw-1"), t.TempDir()); err != nil {
		t.Errorf("while others send slowly: %v", err)
	}
}

func TestCA(t *testing.T) {
	c := cluster(t)
	if _, err := LoadCA(t.Context(), c); !errors.Is(err, ErrNoCA) || !strings.Contains(err.Error(), "skerryctl init") {
		t.Errorf("LoadCA without one = %v", err)
	}
	first, created, err := InitCA(t.Context(), c, time.Now())
	if err != nil || !created {
		t.Fatal(err, created)
	}
	second, created, err := InitCA(t.Context(), c, time.Now())
	if err != nil || created || !first.Certificate().Equal(second.Certificate()) {
		t.Errorf("InitCA again: created %v, %v", created, err)
	}
	serving, err := second.IssueServing([]string{"relay.example", "192.0.2.7", join.ServerName})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{join.ServerName, "relay.example", "192.0.2.7"} {
		if _, err := serving.Leaf.Verify(x509.VerifyOptions{Roots: first.Pool(), DNSName: name}); err != nil {
			t.Errorf("serving certificate as %s: %v", name, err)
		}
	}
	if _, err := join.NodeOf(serving.Leaf); err == nil {
		t.Error("a relay's certificate passes as a node's")
	}
}

func TestTokens(t *testing.T) {
	r := startRelay(t)
	if _, _, err := r.tokens.Create(t.Context(), r.ca, "Gateway 1", time.Hour); err == nil {
		t.Error("a token for a name that no node can have")
	}
	if _, _, err := r.tokens.Create(t.Context(), r.ca, strings.Repeat("g", 64), time.Hour); err == nil {
		t.Error("a token for a name that the Node's hostname label cannot hold")
	}
	if _, _, err := r.tokens.Create(t.Context(), r.ca, "gw-1", MaxTTL+1); err == nil {
		t.Error("a token that lives for ever")
	}
	tok := r.token(t, "gw-1")
	if _, err := r.join(t, tok, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	list, err := r.tokens.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("List = %v, %v", list, err)
	}
	if got := list[0]; got.ID != tok.ID || got.Node != "gw-1" || got.State(time.Now()) != "used" || got.State(time.Now().Add(2*time.Hour)) != "used, expired" {
		t.Errorf("token = %+v", got)
	}
	if err := r.tokens.Delete(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.tokens.Delete(t.Context(), tok.ID); !errors.Is(err, ErrNoToken) {
		t.Errorf("deleting twice = %v", err)
	}
}

func FuzzRequest(f *testing.F) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	csr, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	b, _ := json.Marshal(join.Request{TokenID: "abc", Secret: make([]byte, join.SecretSize), Node: "gw-1", CSR: csr})
	f.Add(b)
	f.Add([]byte(`{"tokenID":"a","csr":"AAAA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, key, refusal := parseRequest(b)
		if (key == nil) == (refusal == nil) {
			t.Fatalf("key %v and refusal %v", key, refusal)
		}
		if refusal == nil && (!join.ValidID(req.TokenID) || req.Node == "" || len(keyHash(key)) != 64) {
			t.Fatalf("accepted %+v", req)
		}
	})
}
