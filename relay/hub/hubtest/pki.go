// Package hubtest makes the certificates that tests of the link need, without the enrolment that a real gateway goes
// through.
package hubtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
)

// PKI is a certificate authority for one test.
type PKI struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	Pool *x509.CertPool
}

// NewPKI returns a fresh authority.
func NewPKI(t testing.TB) *PKI {
	t.Helper()
	p := &PKI{t: t, key: newKey(t), Pool: x509.NewCertPool()}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, p.key.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	p.Pool.AddCert(p.cert)
	return p
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Issue signs a certificate after change has completed the template.
func (p *PKI) Issue(change func(*x509.Certificate)) tls.Certificate {
	p.t.Helper()
	key := newKey(p.t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.cert, key.Public(), p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// CA is the authority's own certificate.
func (p *PKI) CA() *x509.Certificate { return p.cert }

// Node issues a gateway's certificate.
func (p *PKI) Node(name string) tls.Certificate { return p.NodeUntil(name, time.Now().Add(time.Hour)) }

// NodeUntil issues a gateway's certificate that ends then, which may be in the past.
func (p *PKI) NodeUntil(name string, end time.Time) tls.Certificate {
	return p.Issue(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = end.Add(-2*time.Hour), end
		uri, err := url.Parse(join.URI(name))
		if err != nil {
			p.t.Fatal(err)
		}
		c.Subject = pkix.Name{CommonName: join.CommonName(name), Organization: []string{join.Organisation}}
		c.URIs = []*url.URL{uri}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
}

// Server is a template change for a relay's certificate.
func Server(c *x509.Certificate) {
	c.Subject = pkix.Name{CommonName: "skerry-relay"}
	c.DNSNames = []string{join.ServerName}
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

// ServerTLS returns a relay's configuration.
func (p *PKI) ServerTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{p.Issue(Server)}, ClientCAs: p.Pool, MinVersion: tls.VersionTLS13}
}

// ClientTLS returns an agent's configuration with the given certificate.
func (p *PKI) ClientTLS(cert tls.Certificate) func() (*tls.Config, error) {
	return func() (*tls.Config, error) {
		return &tls.Config{RootCAs: p.Pool, ServerName: join.ServerName, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}, nil
	}
}

// ServerPEM issues a relay's certificate and returns it, its key and the authority's certificate in a form that can be handed to another process.
func (p *PKI) ServerPEM() (ca, cert, key []byte) {
	p.t.Helper()
	c := p.Issue(Server)
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		p.t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return block("CERTIFICATE", p.cert.Raw), block("CERTIFICATE", c.Certificate[0]), block("PRIVATE KEY", der)
}

// TLSOf returns the configuration of the relay that ServerPEM was called for.
func TLSOf(ca, cert, key []byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, MinVersion: tls.VersionTLS13}, nil
}
