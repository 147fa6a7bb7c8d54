package opcua

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// selfSigned makes a certificate of an OPC UA application.
func selfSigned(t testing.TB, uri string, bits int) ([]byte, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{u}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// The server that offers every policy is shared too. It only lists its endpoints: gopcua's server cannot open a secured channel,
// and node-opcua in hil-tests does that.
var secured struct {
	once sync.Once
	addr string
	cert []byte
	err  error
}

func startSecured(t *testing.T) string {
	t.Helper()
	startPeer(t)
	secured.once.Do(func() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			secured.err = err
			return
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		der, key := selfSigned(t, "urn:peer:server", 3072)
		secured.cert, secured.addr = der, fmt.Sprintf("opc.tcp://127.0.0.1:%d", port)
		opts := []server.Option{server.EndPoint("127.0.0.1", port), server.Certificate(der), server.PrivateKey(key), server.EnableSecurity("None", ua.MessageSecurityModeNone)}
		for _, uri := range ranked {
			name := strings.TrimPrefix(uri, ua.SecurityPolicyURIPrefix)
			opts = append(opts, server.EnableSecurity(name, ua.MessageSecurityModeSign), server.EnableSecurity(name, ua.MessageSecurityModeSignAndEncrypt))
		}
		opts = append(opts, server.EnableAuthMode(ua.UserTokenTypeAnonymous), server.EnableAuthMode(ua.UserTokenTypeUserName), server.EnableAuthMode(ua.UserTokenTypeCertificate))
		srv := server.New(opts...)
		addNodes(server.NewNodeNameSpace(srv, testNamespace))
		secured.err = srv.Start(context.Background())
	})
	if secured.err != nil {
		t.Fatal(secured.err)
	}
	return secured.addr
}

func pemless(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read1(t *testing.T, d *Driver, cfg device.Config) (device.Value, error) {
	t.Helper()
	s := devicetest.Open(t, d, cfg)
	values := make([]device.Value, 1)
	err := s.Read(t.Context(), devicetest.Compile(t, d, node("temperature", device.TypeFloat)), values)
	return values[0], err
}

// TestTrust: a server that nobody has trusted is refused before anything secret is sent, and kept for the operator to trust.
func TestTrust(t *testing.T) {
	addr := startSecured(t)
	d := New(Options{StateDir: t.TempDir()})
	cfg := device.Config{Protocol: map[string]any{"url": addr, "securityPolicy": "Basic256Sha256", "timeout": 500}}
	_, err := read1(t, d, cfg)
	if !errors.Is(err, device.ErrUnreachable) || !strings.Contains(err.Error(), "BadCertificateUntrusted") {
		t.Fatalf("an unknown server: %v", err)
	}
	list, err := d.Certificates()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.State == "rejected" {
			if err := d.Trust(c.Fingerprint); err != nil {
				t.Fatal(err)
			}
		}
	}
	// gopcua's server takes no secured channel; what counts here is that its certificate is not the reason any more.
	if _, err := read1(t, d, cfg); err == nil || strings.Contains(err.Error(), "Certificate") {
		t.Errorf("a trusted server: %v", err)
	}
}

// TestNoDowngrade: what the server does not offer is refused by name; nothing else is taken instead.
func TestNoDowngrade(t *testing.T) {
	p := startPeer(t) // offers None alone
	d := New(Options{StateDir: t.TempDir()})
	for _, kv := range [][]any{{"securityPolicy", "Aes256-Sha256-RsaPss"}, {"securityMode", "Sign"}, {"securityPolicy", "auto"}} {
		_, err := read1(t, d, p.config(kv...))
		if err == nil || !strings.Contains(err.Error(), "does not offer") {
			t.Errorf("%v: %v", kv, err)
		}
	}
}

func TestWrongPinnedCertificate(t *testing.T) {
	addr := startSecured(t)
	other, _ := selfSigned(t, "urn:other", 2048)
	d := New(Options{StateDir: t.TempDir()})
	_, err := read1(t, d, device.Config{Protocol: map[string]any{"url": addr, "securityPolicy": "Basic256Sha256", "remoteCertificate": pemless(t, "other.der", other)}})
	if err == nil || !strings.Contains(err.Error(), "another certificate than remoteCertificate") {
		t.Errorf("%v", err)
	}
}

func TestTokenPolicies(t *testing.T) {
	list := []*ua.UserTokenPolicy{
		{PolicyID: "anon", TokenType: ua.UserTokenTypeAnonymous},
		{PolicyID: "plain", TokenType: ua.UserTokenTypeUserName, SecurityPolicyURI: ua.SecurityPolicyURINone},
		{PolicyID: "old", TokenType: ua.UserTokenTypeUserName, SecurityPolicyURI: ua.SecurityPolicyURIBasic128Rsa15},
		{PolicyID: "good", TokenType: ua.UserTokenTypeUserName, SecurityPolicyURI: ua.SecurityPolicyURIBasic256Sha256},
	}
	server := &ua.EndpointDescription{SecurityPolicyURI: ua.SecurityPolicyURINone, UserIdentityTokens: list}
	if id, uri, err := tokenPolicy(server, ua.UserTokenTypeUserName, "u"); err != nil || id != "good" || uri != ua.SecurityPolicyURIBasic256Sha256 {
		t.Errorf("the strongest supported policy is not taken: %s %s %v", id, uri, err)
	}
	if id, _, err := tokenPolicy(server, ua.UserTokenTypeAnonymous, "anonymous"); err != nil || id != "anon" {
		t.Errorf("anonymous: %s %v", id, err)
	}
	if _, _, err := tokenPolicy(server, ua.UserTokenTypeCertificate, "the user of c"); err == nil {
		t.Error("a kind of user that the server does not take is accepted")
	}
	c := &client{endpoint: &endpoint{config: config{user: "u", password: "p"}}}
	if _, err := c.userName("plain", ua.SecurityPolicyURINone, nil, nil); err == nil || !strings.Contains(err.Error(), "plainPassword") {
		t.Errorf("a readable password: %v", err)
	}
	c.endpoint.config.plainPassword = true
	if _, err := c.userName("plain", ua.SecurityPolicyURINone, nil, nil); err != nil {
		t.Errorf("a readable password that was allowed: %v", err)
	}
}
