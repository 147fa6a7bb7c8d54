package enroll

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/firmware/wire/join"
)

// Namespace is where Skerry keeps its own objects.
const Namespace = "skerry-system"

// CASecret is the name of the Secret that holds the CA.
const CASecret = "skerry-ca"

const (
	caLifetime = 10 * 365 * 24 * time.Hour
	// A certificate is valid from before it was made: the clocks of relays, operators and gateways differ. A CA's start is also
	// the earliest time that a gateway without a clock believes in.
	caBackdate   = 24 * time.Hour
	nodeBackdate = time.Hour
)

// ErrNoCA is returned by LoadCA in a cluster that was not initialised.
var ErrNoCA = errors.New("the cluster has no Skerry CA")

// CA signs gateways' certificates and the relay's own. Immutable.
type CA struct {
	cert  *x509.Certificate
	key   crypto.Signer
	roots []*x509.Certificate // cert, and other CAs whose certificates are accepted

	previous *CA                 // during a rotation: the other CA, with its key
	began    time.Time           // of the rotation
	cross    []*x509.Certificate // what older CAs have signed for their successors, the newest first
	retired  []retiredCA         // whose certificates open no session any more, and can be renewed for a time
}

// retiredCA is a CA whose key is destroyed, unless somebody has kept a backup of the Secret.
type retiredCA struct {
	cert *x509.Certificate
	at   time.Time // when; zero: a release that did not write it down has retired it, and skerryctl has not dated it yet
}

// ended says whether certificates of it cannot be renewed any more: those that it has signed in its time cannot, however long they
// lived, so what is left is made by somebody who has kept the key.
func (r retiredCA) ended(now time.Time, absence time.Duration) bool {
	return !r.at.IsZero() && now.Sub(r.at) > MaxLifetime+absence
}

// NewCA makes a CA that exists nowhere else. InitCA keeps one in the cluster.
func NewCA(now time.Time) (*CA, error) { return newCA(now.Add(-caBackdate), now.Add(caLifetime)) }

func newCA(from, until time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: fmt.Sprintf("Skerry CA %x", serial.Bytes()[:4])},
		NotBefore:             from,
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true, // without a limit of the path's length: it signs its successors, and they sign theirs
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{cert: cert, key: key, roots: []*x509.Certificate{cert}}, nil
}

// InitCA makes the cluster's CA unless there is one, and says whether it did. In one that is there it dates the retired CAs that
// an older release did not.
func InitCA(ctx context.Context, c kubernetes.Interface, now time.Time) (ca *CA, created bool, err error) {
	ca, err = LoadCA(ctx, c)
	if err == nil {
		if _, undated := ca.dated(now); undated {
			ca, err = editCA(ctx, c, now, func(ca *CA) (*CA, error) { return ca, nil })
		}
	}
	if !errors.Is(err, ErrNoCA) {
		return ca, false, err
	}
	if ca, err = NewCA(now); err != nil {
		return nil, false, err
	}
	secret, err := ca.secret()
	if err != nil {
		return nil, false, err
	}
	_, err = c.CoreV1().Secrets(Namespace).Create(ctx, secret, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) { // another init was faster: its CA is the one
		ca, err = LoadCA(ctx, c)
		return ca, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("create Secret %s/%s: %w", Namespace, CASecret, err)
	}
	return ca, true, nil
}

// LoadCA reads the CA from Secret skerry-system/skerry-ca (secret.go says what is in it). It fails with ErrNoCA if there is none.
func LoadCA(ctx context.Context, c kubernetes.Interface) (*CA, error) {
	_, ca, err := readCA(ctx, c)
	return ca, err
}

// Certificate is the CA's own, which join tokens carry.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Always returns ca, for Options.CA where it never changes.
func (ca *CA) Always() *CA { return ca }

// Name is the CA's, for people: it stands in each certificate that it has signed.
func (ca *CA) Name() string { return ca.cert.Subject.CommonName }

// Pool holds the CAs whose client certificates the relay accepts.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range ca.roots {
		p.AddCert(c)
	}
	return p
}

// renewable holds the CAs whose certificates can be renewed.
func (ca *CA) renewable(now time.Time, absence time.Duration) *x509.CertPool {
	p := ca.Pool()
	for _, r := range ca.retired {
		if !r.ended(now, absence) {
			p.AddCert(r.cert)
		}
	}
	return p
}

// dated returns the CA with now for the dates that are missing, and whether there were any.
func (ca *CA) dated(now time.Time) (*CA, bool) {
	undated := func(r retiredCA) bool { return r.at.IsZero() }
	if !slices.ContainsFunc(ca.retired, undated) {
		return ca, false
	}
	next := *ca
	next.retired = slices.Clone(ca.retired)
	for i := range next.retired {
		if undated(next.retired[i]) {
			next.retired[i].at = now.UTC().Truncate(time.Second)
		}
	}
	return &next, true
}

// IssueServing makes a certificate for a relay, with a key that exists in this process only. names are DNS names and IP
// addresses by which others than agents reach the relay; join.ServerName, which agents verify, is always in it.
//
// With it come the certificates by which a gateway verifies it that knows only a CA before this one. It is valid as long as
// the CA: who can read it from this process's memory can read the CA's key there too, so a shorter
// life would buy nothing, and would lock out gateways whose clocks are wrong.
func (ca *CA) IssueServing(names []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "skerry-relay"},
		NotBefore:   ca.cert.NotBefore,
		NotAfter:    ca.cert.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{join.ServerName},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else if n != join.ServerName {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	leaf, err := ca.sign(tmpl, key.Public())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue the relay's certificate: %w", err)
	}
	return tls.Certificate{Certificate: ca.chain(leaf), PrivateKey: key, Leaf: leaf}, nil
}

// chain is leaf with all that a gateway needs that knows an older CA only.
func (ca *CA) chain(leaf *x509.Certificate) [][]byte {
	out := [][]byte{leaf.Raw}
	for _, c := range ca.cross {
		out = append(out, c.Raw)
	}
	return out
}

// ServerTLS returns a configuration for the relay's one port: TLS 1.3, cert, and client certificates of this CA verified if
// they are given. /v1/enroll is asked without one; everything else must insist on join.NodeOf.
func (ca *CA) ServerTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		ClientCAs:    ca.Pool(),
		ClientAuth:   tls.VerifyClientCertIfGiven,
	}
}

// issueNode signs a gateway's certificate. Everything but the key is the relay's. It begins after the moment that separates it
// from certificates that were revoked, which is zero for nearly all nodes.
func (ca *CA) issueNode(node string, key crypto.PublicKey, now, after time.Time, life time.Duration) (*x509.Certificate, error) {
	uri, err := url.Parse(join.URI(node))
	if err != nil {
		return nil, err
	}
	notAfter := now.Add(life)
	if notAfter.After(ca.cert.NotAfter) {
		notAfter = ca.cert.NotAfter
	}
	notBefore := now.Add(-nodeBackdate)
	if !notBefore.Truncate(time.Second).After(after) {
		notBefore = after.Truncate(time.Second).Add(time.Second)
	}
	return ca.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: join.CommonName(node), Organization: []string{join.Organisation}},
		URIs:        []*url.URL{uri},
		NotBefore:   notBefore,
		NotAfter:    notAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key)
}

func (ca *CA) sign(tmpl *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl.SerialNumber = serial
	tmpl.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key, ca.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newSerial returns 127 random bits, as CAs shall (RFC 5280, section 4.1.2.2).
func newSerial() (*big.Int, error) {
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		if err != nil || n.BitLen() > 64 {
			return n, err
		}
	}
}
