package images

import (
	"archive/tar"
	"bytes"
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
	"os/exec"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// CA signs the certificates of registries.
type CA struct {
	PEM  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a CA that lives as long as the process.
func NewCA(name string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key of CA %s: %w", name, err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert, key}, err
}

// issue makes a certificate for a server at an IP address.
func (c *CA) issue(ip net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "registry"}, NotBefore: c.cert.NotBefore, NotAfter: c.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{ip},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, &key.PublicKey, c.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// Front is how a registry is reached that is not just there: over TLS, after a login, or with faults.
type Front struct {
	// IP to listen on. Runtimes treat loopback in a way of their own: use an Address.
	IP string
	CA *CA // nil: without TLS
	// Users are names and their passwords; nil: whoever asks.
	Users map[string]string
	// Tokens makes the registry want a bearer token, which its own token service gives to Users.
	Tokens bool
	// Fault may answer a request in the registry's place; it returns false if it does not.
	Fault func(w http.ResponseWriter, r *http.Request) bool
}

// Serve serves the same images at another address.
func (r *Registry) Serve(f Front) (*Registry, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(f.IP, "0"))
	if err != nil {
		return nil, fmt.Errorf("listen for a registry: %w", err)
	}
	p := &Registry{listener: l, served: make(chan error, 1), requests: map[string]int{}, content: r.content}
	scheme := "http"
	if f.CA != nil {
		cert, err := f.CA.issue(net.ParseIP(f.IP))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("certificate of a registry: %w", err), l.Close())
		}
		scheme = "https"
		p.listener = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	}
	g := &guard{Front: f, self: scheme + "://" + l.Addr().String(), next: p}
	p.serve(g)
	return p, nil
}

// guard asks who it is before it lets anybody to the images.
type guard struct {
	Front
	self string // URL
	next *Registry
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		g.token(w, r)
		return
	}
	g.next.count(r)
	switch {
	case g.Users == nil:
	case g.Tokens:
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer token-of-") {
			challenge := fmt.Sprintf(`Bearer realm="%s/token",service="registry",scope="repository:%s:pull"`, g.self, repository(r.URL.Path))
			refuse(w, challenge, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
			return
		}
	case !g.knows(r):
		refuse(w, `Basic realm="private"`, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return
	}
	if g.Fault != nil && g.Fault(w, r) {
		return
	}
	g.next.content.ServeHTTP(w, r)
}

func (g *guard) knows(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	return ok && password != "" && g.Users[user] == password
}

// token is the token service (https://distribution.github.io/distribution/spec/auth/token/): GET with a login, or POST with a form.
func (g *guard) token(w http.ResponseWriter, r *http.Request) {
	user := r.PostFormValue("username")
	switch {
	case r.Method == http.MethodPost && user != "" && g.Users[user] == r.PostFormValue("password"):
	case r.Method == http.MethodGet && g.knows(r):
		user, _, _ = r.BasicAuth()
	default:
		refuse(w, "", http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": "token-of-" + user, "access_token": "token-of-" + user, "expires_in": 300})
}

func refuse(w http.ResponseWriter, challenge string, status int, code, message string) {
	if challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
}

// Refuse is a Fault's answer with a status, in the registry's words.
func Refuse(w http.ResponseWriter, status int) {
	refuse(w, "", status, strings.ToUpper(strings.ReplaceAll(http.StatusText(status), " ", "")), strings.ToLower(http.StatusText(status)))
}

// repository is that of a request, as team/app.
func repository(path string) string {
	rest := strings.TrimPrefix(path, "/v2/")
	for _, part := range []string{"/manifests/", "/blobs/"} {
		if repo, _, ok := strings.Cut(rest, part); ok {
			return repo
		}
	}
	return ""
}

// Address adds an address to the loopback interface that is not a loopback address, and that nobody else has. remove takes it away.
func Address(ctx context.Context) (ip string, remove func() error, err error) {
	for n := 1; n < 255; n++ {
		ip := fmt.Sprintf("198.51.100.%d", n)                                                             // RFC 5737: for documentation
		out, err := exec.CommandContext(ctx, "ip", "addr", "add", ip+"/32", "dev", "lo").CombinedOutput() //nolint:gosec // constant but for the number
		switch {
		case err == nil:
			return ip, func() error { return exec.Command("ip", "addr", "del", ip+"/32", "dev", "lo").Run() }, nil
		case !strings.Contains(string(out), "exists") && !strings.Contains(string(out), "assigned"):
			return "", nil, fmt.Errorf("add address %s: %w: %s", ip, err, out)
		}
	}
	return "", nil, errors.New("all of 198.51.100.0/24 are taken: remove leftovers with `ip addr del 198.51.100.N/32 dev lo`")
}

// WithData returns image with one more layer of n bytes that cannot be compressed.
func WithData(image v1.Image, n int) (v1.Image, error) {
	data := make([]byte, n)
	if _, err := rand.Read(data); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "data", Mode: 0o644, Size: int64(n), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(data)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("make a layer of data: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("make a layer of data: %w", err)
	}
	return mutate.AppendLayers(image, layer)
}
