package opcuapeer

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // node-opcua names files by it
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Certificate is a self-signed pair, of an application or a user.
type Certificate struct {
	DER []byte
	Key *rsa.PrivateKey
}

// NewCertificate makes a pair for an application URI on loopback.
func NewCertificate(uri string, from, to time.Time) (*Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	parsed, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: uri, Organization: []string{"Skerry tests"}}, NotBefore: from, NotAfter: to,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{parsed}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &Certificate{DER: der, Key: key}, nil
}

// PEM returns the certificate and its key, PKCS #8.
func (c *Certificate) PEM() (cert, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// write files the pair for the server.
func (c *Certificate) write(dir string) (certFile, keyFile string, err error) {
	cert, key, err := c.PEM()
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(certFile, cert, 0o600); err != nil {
		return "", "", err
	}
	return certFile, keyFile, os.WriteFile(keyFile, key, 0o600)
}

// TrustUser lets the user with this certificate in. It counts at once.
func (p *Peer) TrustUser(der []byte) error { return p.trust("users", der) }

// TrustClient lets the application with this certificate in, with Options.StrictClients.
func (p *Peer) TrustClient(der []byte) error { return p.trust("server", der) }

func (p *Peer) trust(store string, der []byte) error {
	sum := sha1.Sum(der) //nolint:gosec // see the import
	name := hex.EncodeToString(sum[:])
	if err := os.Remove(filepath.Join(p.opt.Folder, store, "rejected", name+".pem")); err != nil && !os.IsNotExist(err) {
		return err
	}
	dir := filepath.Join(p.opt.Folder, store, "trusted", "certs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}
