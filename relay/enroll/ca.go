package enroll

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	roots []*x509.Certificate // cert, and older CAs whose certificates are still accepted
}

// NewCA makes a CA that exists nowhere else. InitCA keeps one in the cluster.
func NewCA(now time.Time) (*CA, error) {
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
		NotBefore:             now.Add(-caBackdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
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

// InitCA makes the cluster's CA unless there is one, and says whether it did.
func InitCA(ctx context.Context, c kubernetes.Interface, now time.Time) (ca *CA, created bool, err error) {
	ca, err = LoadCA(ctx, c)
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

// LoadCA reads the CA from Secret skerry-system/skerry-ca: tls.crt, tls.key, and in ca.crt the older CAs that are still
// trusted, if any. It fails with ErrNoCA if there is none.
func LoadCA(ctx context.Context, c kubernetes.Interface) (*CA, error) {
	secret, err := c.CoreV1().Secrets(Namespace).Get(ctx, CASecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("%w (Secret %s/%s): run `skerryctl init`", ErrNoCA, Namespace, CASecret)
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s/%s: %w", Namespace, CASecret, err)
	}
	ca, err := parseCA(secret.Data)
	if err != nil {
		return nil, fmt.Errorf("the CA in Secret %s/%s: %w: restore it from a backup; a new CA would lock out every gateway that has joined", Namespace, CASecret, err)
	}
	return ca, nil
}

func parseCA(data map[string][]byte) (*CA, error) {
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the key is a %T, which cannot sign", pair.PrivateKey)
	}
	if !pair.Leaf.IsCA {
		return nil, errors.New("the certificate is not a CA's")
	}
	ca := &CA{cert: pair.Leaf, key: key, roots: []*x509.Certificate{pair.Leaf}}
	for rest := data["ca.crt"]; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return ca, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("ca.crt: %w", err)
		}
		if !c.Equal(pair.Leaf) {
			ca.roots = append(ca.roots, c)
		}
	}
}

func (ca *CA) secret() (*corev1.Secret, error) {
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: CASecret, Namespace: Namespace},
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey:       cert,
			corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
			"ca.crt":                bytes.Clone(cert),
		},
	}, nil
}

// Certificate is the CA's own, which join tokens carry.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Pool holds the CAs whose client certificates the relay accepts.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range ca.roots {
		p.AddCert(c)
	}
	return p
}

// IssueServing makes a certificate for a relay, with a key that exists in this process only. names are DNS names and IP
// addresses by which others than agents reach the relay; join.ServerName, which agents verify, is always in it.
//
// It is valid as long as the CA: who can read it from this process's memory can read the CA's key there too, so a shorter
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
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// ServerTLS returns a configuration for the relay's one port: TLS 1.3, cert, and client certificates of this CA verified if
// they are given. /v1/enroll is asked without one; everything else must insist on NodeOf.
func (ca *CA) ServerTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		ClientCAs:    ca.Pool(),
		ClientAuth:   tls.VerifyClientCertIfGiven,
	}
}

// issueNode signs a gateway's certificate. Everything but the key is the relay's.
func (ca *CA) issueNode(node string, key crypto.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	uri, err := url.Parse(join.URI(node))
	if err != nil {
		return nil, err
	}
	notAfter := now.Add(life)
	if notAfter.After(ca.cert.NotAfter) {
		notAfter = ca.cert.NotAfter
	}
	return ca.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: join.CommonName(node), Organization: []string{join.Organisation}},
		URIs:        []*url.URL{uri},
		NotBefore:   now.Add(-nodeBackdate),
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

// NodeOf returns the node that a verified client certificate identifies.
func NodeOf(c *x509.Certificate) (string, error) { return join.NodeOf(c) }
