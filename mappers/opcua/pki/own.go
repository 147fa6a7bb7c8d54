package pki

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Own is the gateway's application instance certificate. It is not changed once it is returned.
type Own struct {
	DER            []byte
	Key            *rsa.PrivateKey
	ApplicationURI string // urn:HOST:skerry:skerryd, of the host's name when the first certificate was made
	NotAfter       time.Time

	selfSigned bool
}

// ErrClock is returned by Own while the clock cannot be right and there is no certificate yet.
var ErrClock = errors.New("the clock is not set: no OPC UA certificate is made before the gateway knows the time (check NTP, or set it by hand)")

// A server trusts a certificate by its fingerprint, so a new one means work at every server: it lives long, its successor
// is laid out early for them to import, and takes over late.
const (
	validity  = 10 * 365 * 24 * time.Hour
	successor = 90 * 24 * time.Hour // before the end: the next certificate is made
	takeover  = 24 * time.Hour      // before the end: it is used
	backdate  = 24 * time.Hour      // servers' clocks may be behind
	keyBits   = 2048                // all policies allow it; 4096 take half a minute on a small gateway
)

// epoch is before any moment at which this program runs with a clock that is set. A gateway without a battery wakes up in 1970.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *Store) clockSet() bool { return s.now().After(epoch) }

// Own returns the application instance certificate. It is made at the first call, and its successor when its end is near;
// both have the same key and the same application URI.
func (s *Store) Own() (*Own, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own, err := s.loadOwn()
	if errors.Is(err, fs.ErrNotExist) {
		if !s.clockSet() {
			return nil, ErrClock
		}
		own, err = s.makeOwn()
	}
	if err != nil {
		return nil, fmt.Errorf("own OPC UA certificate in %s: %w", filepath.Join(s.dir, "own"), err)
	}
	if s.clockSet() {
		if own, err = s.renew(own); err != nil {
			return nil, fmt.Errorf("renew the own OPC UA certificate: %w", err)
		}
	}
	s.own = own
	return own, nil
}

func (s *Store) ownPath(name string) string { return filepath.Join(s.dir, "own", "certs", name) }
func (s *Store) keyPath() string            { return filepath.Join(s.dir, "own", "private", "skerryd.pem") }
func (s *Store) loadOwn() (*Own, error) {
	if s.own != nil {
		return s.own, nil
	}
	key, err := s.loadKey()
	if err != nil {
		return nil, err
	}
	return s.loadCert("skerryd.der", key)
}

func (s *Store) loadKey() (*rsa.PrivateKey, error) {
	data, err := readFile(s.keyPath())
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(toDER(data, "PRIVATE KEY"))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.keyPath(), err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is a %T; OPC UA's policies want RSA", s.keyPath(), parsed)
	}
	return key, nil
}

func (s *Store) loadCert(name string, key *rsa.PrivateKey) (*Own, error) {
	data, err := readFile(s.ownPath(name))
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(toDER(data, "CERTIFICATE"))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.ownPath(name), err)
	}
	if pub, ok := cert.PublicKey.(*rsa.PublicKey); !ok || !pub.Equal(&key.PublicKey) {
		return nil, fmt.Errorf("%s is not for the key in %s: put the right pair there, or remove both to have a new one made", s.ownPath(name), s.keyPath())
	}
	return &Own{DER: cert.Raw, Key: key, ApplicationURI: applicationURI(cert), NotAfter: cert.NotAfter, selfSigned: selfSigned(cert)}, nil
}

// makeOwn makes the key, if there is none, and the first certificate. The key is durable before the certificate is there.
func (s *Store) makeOwn() (*Own, error) {
	key, err := s.loadKey()
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = rsa.GenerateKey(rand.Reader, keyBits); err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		if err := replace(s.keyPath(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	host, _ := s.host()
	return s.issue("skerryd.der", key, "urn:"+host+":skerry:skerryd")
}

// renew lays out the successor of a certificate whose end is near, and changes over to it shortly before the end.
func (s *Store) renew(own *Own) (*Own, error) {
	left := own.NotAfter.Sub(s.now())
	if left > successor || !own.selfSigned { // an authority's certificate is the authority's to renew
		return own, nil
	}
	next, err := s.loadCert("skerryd-next.der", own.Key)
	if errors.Is(err, fs.ErrNotExist) {
		next, err = s.issue("skerryd-next.der", own.Key, own.ApplicationURI)
	}
	if err != nil || left > takeover {
		return own, err
	}
	if err := os.Rename(s.ownPath("skerryd-next.der"), s.ownPath("skerryd.der")); err != nil {
		return nil, err
	}
	return next, syncDir(filepath.Dir(s.ownPath("")))
}

// issue signs a certificate with its own key and files it (OPC 10000-6 section 6.2.2: what it must hold).
func (s *Store) issue(name string, key *rsa.PrivateKey, uri string) (*Own, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	parsed, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	host, addresses := s.host()
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "skerryd on " + host, Organization: []string{"Skerry"}},
		NotBefore: s.now().Add(-backdate).UTC(), NotAfter: s.now().Add(validity).UTC(),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{parsed}, DNSNames: []string{host}, SignatureAlgorithm: x509.SHA256WithRSA,
	}
	for _, a := range addresses {
		tmpl.IPAddresses = append(tmpl.IPAddresses, net.ParseIP(a))
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	if err := replace(s.ownPath(name), der); err != nil {
		return nil, err
	}
	return &Own{DER: der, Key: key, ApplicationURI: uri, NotAfter: tmpl.NotAfter, selfSigned: true}, nil
}

// maxAddresses bounds the addresses in a certificate: container hosts have many.
const maxAddresses = 16

// hostNames are this machine's name and its addresses, without loopback and link-local ones.
func hostNames() (string, []string) {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	name = strings.Map(func(r rune) rune { // as much of it as a DNS name and a URN may hold
		if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	var out []string
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return name, nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && len(out) < maxAddresses {
			out = append(out, n.IP.String())
		}
	}
	return name, out
}
