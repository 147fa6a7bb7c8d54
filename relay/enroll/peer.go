package enroll

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"sync"
)

// Peer is what relays know each other by when one hands a request to another: a certificate that is valid both ways, with a name that
// no gateway's certificate has. Like the serving certificate it is of this process only, and made anew when the CA changes. Create it with
// NewPeer; it is safe for concurrent use.
type Peer struct {
	authority *Authority
	dns, uri  string
	names     []string

	mu   sync.Mutex
	of   *present // what cert follows from
	cert *tls.Certificate
}

// NewPeer returns the identity of a relay: dns is the server name by which others verify it, uri the name in its certificate; names are
// further IP addresses and DNS names that the certificate is for.
func NewPeer(a *Authority, dns, uri string, names ...string) *Peer {
	return &Peer{authority: a, dns: dns, uri: uri, names: names}
}

// Identity returns the certificate, and the CAs that sign those of other relays. It fails with ErrNoCA before the CA is known.
func (p *Peer) Identity() (*tls.Certificate, *x509.CertPool, error) {
	now := p.authority.present.Load()
	if now == nil {
		return nil, nil, ErrNoCA
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of != now {
		cert, err := now.ca.issuePeer(p.dns, p.uri, p.names)
		if err != nil {
			return nil, nil, err
		}
		p.of, p.cert = now, &cert
	}
	return p.cert, now.pool, nil
}

func (ca *CA) issuePeer(dns, uri string, names []string) (tls.Certificate, error) {
	name, err := url.Parse(uri)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("name of this relay: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "skerry-relay"},
		NotBefore: ca.cert.NotBefore, NotAfter: ca.cert.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{dns}, URIs: []*url.URL{name},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	leaf, err := ca.sign(tmpl, key.Public())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue this relay's certificate for other relays: %w", err)
	}
	return tls.Certificate{Certificate: ca.chain(leaf), PrivateKey: key, Leaf: leaf}, nil
}
