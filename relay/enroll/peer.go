package enroll

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"sync"
)

// Peer is what relays know each other by when one hands a request to another: a certificate that is valid both ways, with a name that
// no gateway's certificate has. Like the serving certificate it is of this process only, and made anew when the CA changes. Create it with
// NewPeer; it is safe for concurrent use.
type Peer struct {
	authority *Authority
	dns, uri  string

	mu   sync.Mutex
	of   *present // what cert follows from
	cert *tls.Certificate
}

// NewPeer returns the identity of a relay: dns is the server name by which others verify it, uri the name in its certificate.
func NewPeer(a *Authority, dns, uri string) *Peer { return &Peer{authority: a, dns: dns, uri: uri} }

// Identity returns the certificate, and the CAs that sign those of other relays. It fails with ErrNoCA before the CA is known.
func (p *Peer) Identity() (*tls.Certificate, *x509.CertPool, error) {
	now := p.authority.present.Load()
	if now == nil {
		return nil, nil, ErrNoCA
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of != now {
		cert, err := now.ca.issuePeer(p.dns, p.uri)
		if err != nil {
			return nil, nil, err
		}
		p.of, p.cert = now, &cert
	}
	return p.cert, now.pool, nil
}

func (ca *CA) issuePeer(dns, uri string) (tls.Certificate, error) {
	name, err := url.Parse(uri)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("name of this relay: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := ca.sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: "skerry-relay"},
		NotBefore: ca.cert.NotBefore, NotAfter: ca.cert.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{dns}, URIs: []*url.URL{name},
	}, key.Public())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue this relay's certificate for other relays: %w", err)
	}
	return tls.Certificate{Certificate: ca.chain(leaf), PrivateKey: key, Leaf: leaf}, nil
}
