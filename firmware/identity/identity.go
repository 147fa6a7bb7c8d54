package identity

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/firmware/wire/join"
)

// ErrNotEnrolled is returned by Load on a gateway that has not joined.
var ErrNotEnrolled = errors.New("this gateway has not joined")

// ErrDamaged is wrapped by Load's error on a gateway that has joined, and whose identity can be read and is not whole in either copy: it has to join anew.
var ErrDamaged = errors.New("the identity is damaged")

// Identity is an enrolled gateway's identity. It is immutable and safe for concurrent use.
type Identity struct {
	node     string
	tokenID  string
	serial   uint64
	issued   time.Time // by the relay's clock
	chain    tls.Certificate
	roots    *x509.CertPool
	repaired []string
}

// Load reads the identity in dir. It fails with ErrNotEnrolled if there is none. If one of the two copies is damaged,
// missing or older, Load writes it again from the other; Repaired tells.
func Load(dir string) (*Identity, error) {
	rec, stale, err := readRecord(dir, current)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no identity in %s", ErrNotEnrolled, dir)
	case onlyDamaged(err):
		return nil, fmt.Errorf("%w in both copies (%w): join this gateway anew with a token from `skerryctl token create`", ErrDamaged, err)
	case err != nil:
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	id, err := rec.identity()
	if err != nil {
		return nil, fmt.Errorf("%w: that in %s cannot be used: %w: join this gateway anew with a token from `skerryctl token create`", ErrDamaged, dir, err)
	}
	for _, path := range stale {
		// A read-only or full disk is no reason to refuse an identity that is whole.
		if b, err := rec.encode(); err == nil && durable.Replace(path, b, 0o600) == nil {
			id.repaired = append(id.repaired, path)
		}
	}
	return id, nil
}

func (r *record) identity() (*Identity, error) {
	if len(r.Chain) == 0 || len(r.Roots) == 0 {
		return nil, errors.New("it has no certificate")
	}
	key, err := parseKey(r.Key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(r.Chain[0])
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("its certificate is for another key")
	}
	node, err := join.NodeOf(leaf)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, der := range r.Roots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("CA certificate: %w", err)
		}
		roots.AddCert(c)
	}
	issued := r.Issued
	if issued.Before(leaf.NotBefore) || issued.After(leaf.NotAfter) { // none, or of no use
		issued = leaf.NotBefore
	}
	return &Identity{
		node: node, tokenID: r.TokenID, serial: r.Serial, roots: roots, issued: issued,
		// Relays know their CA: what came with the certificate is for the gateway that knows only an older one.
		chain: tls.Certificate{Certificate: r.Chain[:1], PrivateKey: key, Leaf: leaf},
	}, nil
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key: is a %T, not ECDSA", k)
	}
	return key, nil
}

// Node is the name by which the relay knows this gateway.
func (id *Identity) Node() string { return id.node }

// TokenID returns the ID of the token that the gateway joined with.
func (id *Identity) TokenID() string { return id.tokenID }

// Issuer is the name of the CA that signed the certificate.
func (id *Identity) Issuer() string { return id.chain.Leaf.Issuer.CommonName }

// NotAfter is when the certificate expires, by the relay's clock.
func (id *Identity) NotAfter() time.Time { return id.chain.Leaf.NotAfter }

// NotBefore is a moment that has certainly passed: the relay wrote it into the certificate.
func (id *Identity) NotBefore() time.Time { return id.chain.Leaf.NotBefore }

// RenewAt is when the certificate should be renewed, by the relay's clock: after two thirds of its life, give or take a
// twentieth. The certificate's own serial number says where in that span, so that a fleet that joined in one hour does not
// renew in one hour, and a gateway that restarts does not draw again.
func (id *Identity) RenewAt() time.Time {
	life := id.NotAfter().Sub(id.issued)
	sum := sha256.Sum256(id.chain.Leaf.SerialNumber.Bytes())
	share := time.Duration(binary.BigEndian.Uint16(sum[:]))
	return id.issued.Add(life*2/3 - life/20 + life/10/(1<<16)*share)
}

// Repaired lists the files that Load had to write again.
func (id *Identity) Repaired() []string { return id.repaired }

// TLSConfig returns a new client configuration for the link: TLS 1.3, this gateway's certificate, and trust in the CAs
// that the relay named at enrolment and in nothing else. The server is verified as join.ServerName, whatever its address.
func (id *Identity) TLSConfig() (*tls.Config, error) {
	return clientTLS(id.roots, notBefore(time.Now, id.NotBefore()), id.chain), nil
}

func clientTLS(roots *x509.CertPool, now func() time.Time, chain ...tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		RootCAs:      roots,
		ServerName:   join.ServerName,
		Certificates: chain,
		Time:         now,
	}
}

// notBefore returns a clock that reads at least floor. Without it a gateway that wakes in 1970 would find every certificate
// not yet valid, and could never learn the time from its relay.
func notBefore(now func() time.Time, floor time.Time) func() time.Time {
	return func() time.Time {
		if t := now(); t.After(floor) {
			return t
		}
		return floor
	}
}
