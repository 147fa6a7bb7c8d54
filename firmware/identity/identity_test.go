package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
)

// peer is a relay as far as joining goes: a CA, a TLS server, and a table of bound keys.
type peer struct {
	t       *testing.T
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	cross   [][]byte // what older CAs have signed for their successors, the newest first
	serving *tls.Certificate
	clock   time.Time
	bound   map[string][]byte // token id → key that it is bound to
	answer  http.HandlerFunc  // default: sign
	address string
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{t: t, clock: time.Now().Truncate(time.Second), bound: map[string][]byte{}}
	p.key = newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Skerry CA test"},
		NotBefore: p.clock.Add(-24 * time.Hour), NotAfter: p.clock.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	p.ca = p.sign(tmpl, tmpl, p.key)
	p.serve()
	p.answer = p.enroll
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.answer(w, r) }))
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.serving, nil }}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	p.address = srv.Listener.Addr().String()
	return p
}

// serve makes a relay's certificate of the CA that signs now.
func (p *peer) serve() {
	key := newKey(p.t)
	cert := p.sign(&x509.Certificate{
		DNSNames: []string{join.ServerName}, NotBefore: p.ca.NotBefore, NotAfter: p.ca.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, p.ca, key)
	p.serving = &tls.Certificate{Certificate: append([][]byte{cert.Raw}, p.cross...), PrivateKey: key}
}

// rotate gives the CA a successor, signed by it and by itself, which alone is trusted from then on.
func (p *peer) rotate() {
	key := newKey(p.t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: p.ca.Subject.CommonName + "'"},
		NotBefore: p.ca.NotBefore, NotAfter: p.ca.NotAfter.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	p.cross = append([][]byte{p.sign(tmpl, p.ca, key).Raw}, p.cross...)
	p.key = key
	p.ca = p.sign(tmpl, tmpl, key)
	p.serve()
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (p *peer) sign(tmpl, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	p.t.Helper()
	if tmpl.SerialNumber == nil {
		tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *peer) token(node string) string {
	tok := join.Token{ID: "token" + strings.NewReplacer("-", "", ".", "").Replace(node), Node: node, CA: p.ca}
	return tok.String()
}

func (p *peer) enroll(w http.ResponseWriter, r *http.Request) {
	var req join.Request
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.URL.Path != join.Path || r.Method != http.MethodPost {
		p.t.Errorf("asked with %s %s: %v", r.Method, r.URL, err)
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil || csr.CheckSignature() != nil {
		p.t.Errorf("CSR: %v", err)
		return
	}
	if key, ok := p.bound[req.TokenID]; ok && !bytes.Equal(key, csr.RawSubjectPublicKeyInfo) {
		w.WriteHeader(join.CodeUsed.Status())
		_ = json.NewEncoder(w).Encode(join.Refusal{Code: join.CodeUsed, Message: "used", Remedy: "create another"})
		return
	}
	p.bound[req.TokenID] = csr.RawSubjectPublicKeyInfo
	_ = json.NewEncoder(w).Encode(p.response(req.Node, csr.PublicKey.(*ecdsa.PublicKey)))
}

func (p *peer) response(node string, key *ecdsa.PublicKey) join.Response {
	uri, _ := url.Parse(join.URI(node))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: join.CommonName(node), Organization: []string{join.Organisation}}, URIs: []*url.URL{uri},
		NotBefore: p.clock.Add(-time.Hour), NotAfter: p.clock.Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.ca, key, p.key)
	if err != nil {
		p.t.Error(err)
	}
	return join.Response{Node: node, Chain: append([][]byte{der}, p.cross...), Roots: [][]byte{p.ca.Raw}, Time: p.clock}
}

func (p *peer) options(dir string) EnrollOptions {
	return EnrollOptions{
		Addresses: []string{p.address}, Token: p.token("gw-1"), Node: "gw-1", Dir: dir,
		pause: func(int) time.Duration { return time.Millisecond },
	}
}

func enroll(t *testing.T, o EnrollOptions) (*Identity, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return Enroll(ctx, o)
}

func TestEnrollAndLoad(t *testing.T) {
	p := newPeer(t)
	dir := filepath.Join(t.TempDir(), "var", "lib", "identity")
	if _, err := Load(dir); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("Load before = %v", err)
	}
	if _, err := enroll(t, p.options(dir)); err != nil {
		t.Fatal(err)
	}
	id, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if id.Node() != "gw-1" || !id.NotAfter().Equal(p.clock.Add(24*time.Hour)) || len(id.Repaired()) != 0 {
		t.Errorf("identity: node %q until %s, repaired %v", id.Node(), id.NotAfter(), id.Repaired())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder holds %v, %v; want the two copies and nothing left over", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

// The relay signs, and power fails before the identity is saved: the same token works again, because the key is the same.
func TestPowerCutBetweenSigningAndSaving(t *testing.T) {
	p := newPeer(t)
	dir := t.TempDir()
	o := p.options(dir)
	cut := errors.New("power")
	o.save = func(*record) error { return cut }
	if _, err := enroll(t, o); !errors.Is(err, cut) || !strings.Contains(err.Error(), "same token") {
		t.Fatalf("Enroll = %v", err)
	}
	if len(p.bound) != 1 {
		t.Fatal("the relay has not bound the token")
	}
	if _, err := Load(dir); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("Load after the cut = %v", err)
	}
	// One copy of the pending key is damaged besides.
	if err := os.WriteFile(copies(dir, pending)[0], []byte("\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := enroll(t, p.options(dir)); err != nil {
		t.Fatalf("joining again after the cut: %v", err)
	}
	// And without the key, the token is refused: that is what binds it.
	_, err := enroll(t, p.options(t.TempDir()))
	var refusal *join.Refusal
	if !errors.As(err, &refusal) || refusal.Code != join.CodeUsed {
		t.Errorf("another key with the same token: %v", err)
	}
}

// A cut while the copies are written leaves at least one: all states of the two files are tried.
func TestDamagedCopies(t *testing.T) {
	p := newPeer(t)
	dir := t.TempDir()
	if _, err := enroll(t, p.options(dir)); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(copies(dir, current)[0])
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0x10
	for name, damage := range map[string]func(path string) error{
		"missing":   os.Remove,
		"empty":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"truncated": func(path string) error { return os.WriteFile(path, good[:len(good)/2], 0o600) },
		"flipped":   func(path string) error { return os.WriteFile(path, flipped, 0o600) },
	} {
		for i, path := range copies(dir, current) {
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			id, err := Load(dir)
			if err != nil {
				t.Fatalf("%s copy %d: %v", name, i+1, err)
			}
			if len(id.Repaired()) != 1 || id.Repaired()[0] != path {
				t.Errorf("%s copy %d: repaired %v", name, i+1, id.Repaired())
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
				t.Errorf("%s copy %d was not repaired: %v", name, i+1, err)
			}
		}
	}
	for _, path := range copies(dir, current) {
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); err == nil || errors.Is(err, ErrNotEnrolled) || !strings.Contains(err.Error(), "join this gateway anew") {
		t.Errorf("both copies damaged: %v", err)
	}
}

// The newer of two intact copies wins: a cut between writing them must not bring an old identity back.
func TestNewerCopyWins(t *testing.T) {
	p := newPeer(t)
	dir := t.TempDir()
	if _, err := enroll(t, p.options(dir)); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(copies(dir, current)[1])
	if err != nil {
		t.Fatal(err)
	}
	o := p.options(dir)
	o.Node, o.Token = "gw-2", p.token("gw-2")
	if _, err := enroll(t, o); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copies(dir, current)[1], old, 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := Load(dir)
	if err != nil || id.Node() != "gw-2" || len(id.Repaired()) != 1 {
		t.Errorf("Load = %v, %v", id, err)
	}
}

func TestClocks(t *testing.T) {
	for name, c := range map[string]struct {
		clock func(now time.Time) time.Time
		fails string
	}{
		"1970":          {func(time.Time) time.Time { return time.Unix(60, 0) }, ""},
		"a year behind": {func(n time.Time) time.Time { return n.AddDate(-1, 0, 0) }, ""},
		"a year ahead":  {func(n time.Time) time.Time { return n.AddDate(1, 0, 0) }, ""},
		"beyond the CA": {func(n time.Time) time.Time { return n.AddDate(20, 0, 0) }, "set the clock"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			var log bytes.Buffer
			o := p.options(t.TempDir())
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
			o.now = func() time.Time { return c.clock(time.Now()) }
			_, err := enroll(t, o)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) || !strings.Contains(err.Error(), "clock says 20") {
					t.Errorf("err = %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), "clock is") {
				t.Errorf("no warning about the clock in the log: %s", log.String())
			}
		})
	}
	floor := time.Unix(1_700_000_000, 0)
	if got := notBefore(func() time.Time { return time.Unix(0, 0) }, floor)(); !got.Equal(floor) {
		t.Errorf("a clock in 1970 reads %s", got)
	}
}

func TestWrongTokens(t *testing.T) {
	p := newPeer(t)
	for name, c := range map[string]struct {
		edit func(*EnrollOptions)
		says string
	}{
		"other node's": {func(o *EnrollOptions) { o.Node = "gw-2" }, `the token is for node "gw-1", and this gateway is configured as node "gw-2"`},
		"cut short":    {func(o *EnrollOptions) { o.Token = o.Token[:200] }, "incomplete"},
		"no token":     {func(o *EnrollOptions) { o.Token = "" }, "not a Skerry join token"},
		"no relay":     {func(o *EnrollOptions) { o.Addresses = nil }, "relay.addresses"},
	} {
		o := p.options(t.TempDir())
		c.edit(&o)
		if _, err := enroll(t, o); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", name, err, c.says)
		}
	}
	if len(p.bound) != 0 {
		t.Error("a token that the gateway itself can see to be wrong reached the relay")
	}
}

func TestWrongRelays(t *testing.T) {
	p, stranger := newPeer(t), newPeer(t)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	web := newPeer(t)
	web.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>welcome</html>")) }
	closed := freeAddress(t)
	for name, c := range map[string]struct {
		addr  string
		token string
		says  string
	}{
		"plain HTTP":           {plain.Listener.Addr().String(), p.token("gw-1"), "does not speak TLS"},
		"another installation": {stranger.address, p.token("gw-1"), "token's CA did not sign"},
		"a web server":         {web.address, web.token("gw-1"), "no Skerry relay would"},
		"nobody":               {closed, p.token("gw-1"), "cannot be reached"},
		"no port":              {"relay.example", p.token("gw-1"), "HOST:PORT"},
		"no such host":         {"relay.invalid:443", p.token("gw-1"), "does not resolve"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			o := p.options(t.TempDir())
			o.Addresses, o.Token = []string{c.addr}, c.token
			o.pause = func(int) time.Duration { return time.Hour }
			_, err := Enroll(ctx, o)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.addr) || strings.Contains(err.Error(), "\n") {
				t.Errorf("err = %v, want one line with %q", err, c.says)
			}
		})
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// Gateways often come up before their network: the next address, and the next attempt, are tried.
func TestTriesAgain(t *testing.T) {
	p := newPeer(t)
	calls := 0
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(join.Refusal{Code: join.CodeUnavailable, Message: "away"})
			return
		}
		p.enroll(w, r)
	}
	o := p.options(t.TempDir())
	o.Addresses = []string{freeAddress(t), p.address}
	if _, err := enroll(t, o); err != nil || calls != 3 {
		t.Errorf("after %d calls: %v", calls, err)
	}
}

// The gateway holds the relay to its request, too.
func TestBadAnswers(t *testing.T) {
	for name, edit := range map[string]func(*peer, *join.Response){
		"another key": func(p *peer, r *join.Response) { *r = p.response("gw-1", &newKey(p.t).PublicKey) },
		"another node": func(p *peer, r *join.Response) {
			leaf, _ := x509.ParseCertificate(r.Chain[0])
			*r = p.response("gw-2", leaf.PublicKey.(*ecdsa.PublicKey))
		},
		"another CA": func(p *peer, r *join.Response) {
			leaf, _ := x509.ParseCertificate(r.Chain[0])
			*r = newPeer(p.t).response("gw-1", leaf.PublicKey.(*ecdsa.PublicKey))
		},
		"no roots": func(_ *peer, r *join.Response) { r.Roots = nil },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			p.answer = func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				p.enroll(rec, r)
				var resp join.Response
				if err := json.Unmarshal(rec.Body.Bytes(), &resp); err != nil {
					t.Error(err)
				}
				edit(p, &resp)
				_ = json.NewEncoder(w).Encode(resp)
			}
			dir := t.TempDir()
			if _, err := enroll(t, p.options(dir)); err == nil || !strings.Contains(err.Error(), "answer cannot be used") {
				t.Errorf("err = %v", err)
			}
			if _, err := Load(dir); !errors.Is(err, ErrNotEnrolled) {
				t.Errorf("Load = %v", err)
			}
		})
	}
}

func FuzzDecodeRecord(f *testing.F) {
	b, err := (&record{Serial: 1, Node: "gw-1", Key: []byte{1}, Chain: [][]byte{{2}}, Roots: [][]byte{{3}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(header + "\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if rec, err := decodeRecord(b); err == nil {
			if _, err := rec.identity(); err == nil && len(rec.Chain) == 0 {
				t.Fatal("an identity without a certificate")
			}
		} else if !errors.Is(err, errDamaged) {
			t.Fatalf("err = %v", err)
		}
	})
}
