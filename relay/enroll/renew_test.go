package enroll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/wire/join"
)

// joined returns the identity of a gateway that has joined, and its folder.
func (r *relay) joined(t *testing.T, node string) (*identity.Identity, string) {
	t.Helper()
	dir := t.TempDir()
	id, err := r.join(t, r.token(t, node), dir)
	if err != nil {
		t.Fatal(err)
	}
	return id, dir
}

// credentials returns the certificate and the key of an identity.
func credentials(t *testing.T, id *identity.Identity) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	cfg, err := id.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Certificates[0].Leaf, cfg.Certificates[0].PrivateKey.(*ecdsa.PrivateKey)
}

// post sends what body makes for the connection, as a client that knows the CA and has no certificate.
func (r *relay) post(t *testing.T, method string, body func(cs *tls.ConnectionState) []byte) (int, http.Header, []byte) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: r.ca.Pool(), ServerName: join.ServerName}}
	conn, err := d.DialContext(t.Context(), "tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cs := conn.(*tls.Conn).ConnectionState()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+r.address+join.RenewPath, bytes.NewReader(body(&cs)))
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableKeepAlives: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, answer.Bytes()
}

func renewal(t *testing.T, cs *tls.ConnectionState, cert *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	req, err := join.NewRenewal(cs, cert.Raw, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// renewing runs the agent's own Renewer until the certificate in dir is another one than before.
func renewing(t *testing.T, r *relay, dir string, start func(*identity.Renewer)) *identity.Identity {
	t.Helper()
	before, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	re := identity.NewRenewer(identity.RenewOptions{Addresses: []string{r.address}, Dir: dir})
	start(re)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- re.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	}()
	was, _ := credentials(t, before)
	var now *identity.Identity
	waitFor(t, func() bool {
		if now, err = identity.Load(dir); err != nil {
			t.Fatal(err)
		}
		is, _ := credentials(t, now)
		return !is.Equal(was)
	})
	return now
}

func TestRenewBeforeTheEnd(t *testing.T) {
	var ahead atomic.Int64
	r := startRelay(t, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		o.Lifetime = 90 * 24 * time.Hour
	})
	id, dir := r.joined(t, "gw-1")
	old, key := credentials(t, id)
	ahead.Store(int64(70 * 24 * time.Hour))
	// The gateway's own clock says that nothing is due; the relay's is what counts.
	next := renewing(t, r, dir, func(re *identity.Renewer) { re.Heard(time.Now().Add(70 * 24 * time.Hour)) })
	cert, sameKey := credentials(t, next)
	if !sameKey.Equal(key) {
		t.Error("the key has changed")
	}
	if got := cert.NotAfter.Sub(old.NotAfter).Round(time.Hour); got != 70*24*time.Hour {
		t.Errorf("the certificate ends %v later, want 70 days", got)
	}
	if node, err := join.NodeOf(cert); err != nil || node != "gw-1" || len(cert.DNSNames) > 0 || len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("the certificate is for %q (%v), names %v, usages %v", node, err, cert.DNSNames, cert.ExtKeyUsage)
	}
	if seen := clientCertificateSeen(t, r.ca, id); !seen.Equal(old) {
		t.Error("the old certificate is not good any more, though it is valid")
	}
}

// TestExpired is the gateway that lay in store: its certificate opens nothing, and renews itself.
func TestExpired(t *testing.T) {
	r := startRelay(t, func(o *Options) { o.Lifetime = time.Second })
	id, dir := r.joined(t, "gw-1")
	waitFor(t, func() bool { return time.Now().After(id.NotAfter().Add(time.Second)) })
	r.opts.Lifetime = time.Hour

	cfg, err := id.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", r.address)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	var alert tls.AlertError
	if !errors.As(err, &alert) && (err == nil || !strings.Contains(err.Error(), "expired certificate")) {
		t.Errorf("a handshake with the expired certificate ends with %v, want the alert for it", err)
	}
	next := renewing(t, r, dir, func(*identity.Renewer) {})
	if seen := clientCertificateSeen(t, r.ca, next); seen.NotAfter != next.NotAfter() {
		t.Errorf("the handshake shows %v", seen)
	}
}

type unsynced struct {
	revokedIf
	synced *atomic.Bool
}

func (u unsynced) Synced() bool { return u.synced.Load() }

func TestRenewalRefusals(t *testing.T) {
	var synced, revoked atomic.Bool
	synced.Store(true)
	r := startRelay(t, func(o *Options) {
		o.Revoked = unsynced{revokedIf(func(node string) bool { return node == "gw-2" && revoked.Load() }), &synced}
	})
	id, _ := r.joined(t, "gw-1")
	cert, key := credentials(t, id)
	id2, _ := r.joined(t, "gw-2")
	cert2, key2 := credentials(t, id2)
	otherCA, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := otherCA.issueNode("gw-1", key.Public(), time.Now(), time.Time{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := r.ca.IssueServing(nil)
	if err != nil {
		t.Fatal(err)
	}
	var earlier []byte
	_, _, _ = r.post(t, http.MethodPost, func(cs *tls.ConnectionState) []byte { earlier = renewal(t, cs, cert, key); return earlier })
	revoked.Store(true)

	for name, c := range map[string]struct {
		code   join.Code
		method string
		body   func(cs *tls.ConnectionState) []byte
	}{
		"sent again on another connection": {code: join.CodeBadProof, body: func(*tls.ConnectionState) []byte { return earlier }},
		"with another key":                 {code: join.CodeBadProof, body: func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert, key2) }},
		"of another CA":                    {code: join.CodeBadCert, body: func(cs *tls.ConnectionState) []byte { return renewal(t, cs, foreign, key) }},
		"of a relay": {code: join.CodeBadCert, body: func(cs *tls.ConnectionState) []byte {
			return renewal(t, cs, serving.Leaf, serving.PrivateKey.(*ecdsa.PrivateKey))
		}},
		"of the CA":        {code: join.CodeBadCert, body: func(cs *tls.ConnectionState) []byte { return renewal(t, cs, r.ca.cert, r.ca.key.(*ecdsa.PrivateKey)) }},
		"of a revoked one": {code: join.CodeRevoked, body: func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert2, key2) }},
		"no JSON":          {code: join.CodeBadRequest, body: func(*tls.ConnectionState) []byte { return []byte("{") }},
		"empty":            {code: join.CodeBadRequest, body: func(*tls.ConnectionState) []byte { return []byte("{}") }},
		"no certificate": {code: join.CodeBadRequest, body: func(*tls.ConnectionState) []byte {
			return []byte(`{"certificate":"AAAA","proof":"AAAA"}`)
		}},
		"too large": {code: join.CodeBadRequest, body: func(*tls.ConnectionState) []byte { return make([]byte, join.MaxBody+1) }},
		"by GET":    {code: join.CodeBadRequest, method: http.MethodGet, body: func(*tls.ConnectionState) []byte { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			if c.method == "" {
				c.method = http.MethodPost
			}
			status, _, answer := r.post(t, c.method, c.body)
			var got join.Refusal
			if err := json.Unmarshal(answer, &got); err != nil || got.Code != c.code || status == http.StatusOK || got.Message == "" {
				t.Errorf("answered %d %s, want code %s", status, answer, c.code)
			}
		})
	}

	synced.Store(false) // a relay that is starting
	status, header, answer := r.post(t, http.MethodPost, func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert, key) })
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !bytes.Contains(answer, []byte(join.CodeUnavailable)) {
		t.Errorf("before the list of revoked nodes is known: %d %s", status, answer)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // less than relays ask to wait
	defer cancel()
	_, err = identity.Enroll(ctx, identity.EnrollOptions{Addresses: []string{r.address}, Token: r.token(t, "gw-3").String(), Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), string(join.CodeUnavailable)) {
		t.Errorf("joining before the list of revoked nodes is known: %v", err)
	}
}

// TestRenewalsAreLimited shows that a node has a limit of its own, which only its key uses up.
func TestRenewalsAreLimited(t *testing.T) {
	r := startRelay(t)
	id, _ := r.joined(t, "gw-1")
	cert, key := credentials(t, id)
	id2, _ := r.joined(t, "gw-2")
	cert2, key2 := credentials(t, id2)
	for range 2 * renewalsBurst { // somebody who has seen the certificate
		r.post(t, http.MethodPost, func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert, key2) })
	}
	signed, busy := 0, 0
	for range renewalsBurst + 5 {
		switch status, _, answer := r.post(t, http.MethodPost, func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert, key) }); status {
		case http.StatusOK:
			signed++
		case http.StatusTooManyRequests:
			busy++
		default:
			t.Fatalf("answered %d %s", status, answer)
		}
	}
	if signed < renewalsBurst || busy == 0 {
		t.Errorf("%d signed, %d told to wait; want about %d signed and some told to wait", signed, busy, renewalsBurst)
	}
	if status, _, answer := r.post(t, http.MethodPost, func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert2, key2) }); status != http.StatusOK {
		t.Errorf("another node is answered %d %s", status, answer)
	}
}

func FuzzRenewal(f *testing.F) {
	ca, err := NewCA(time.Now())
	if err != nil {
		f.Fatal(err)
	}
	key := ca.key.(*ecdsa.PrivateKey)
	cert, err := ca.issueNode("gw-1", key.Public(), time.Now(), time.Time{}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(join.Renewal{Certificate: cert.Raw, Proof: []byte{1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"certificate":"MIIB","proof":"AA=="}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, got, node, refusal := parseRenewal(body, ca, time.Now(), DefaultAbsence)
		if refusal != nil {
			return
		}
		if node != "gw-1" || !got.Equal(cert) || !bytes.Equal(req.Certificate, cert.Raw) {
			t.Errorf("a certificate that the CA never signed was taken as %q's", node)
		}
		if err := req.Verify(&tls.ConnectionState{}, &key.PublicKey); err == nil {
			t.Error("proven without a connection")
		}
	})
}
