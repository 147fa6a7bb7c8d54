package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"
)

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// handshake returns the two ends' views of a new TLS connection.
func handshake(t *testing.T, version uint16) (client, server tls.ConnectionState) {
	t.Helper()
	key := ecKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{ServerName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	srv := tls.Server(b, &tls.Config{MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, SessionTicketsDisabled: true})
	cli := tls.Client(a, &tls.Config{MinVersion: version, RootCAs: roots, ServerName: ServerName})
	done := make(chan error, 1)
	go func() { done <- srv.HandshakeContext(t.Context()) }()
	if err := cli.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return cli.ConnectionState(), srv.ConnectionState()
}

func TestRenewalIsBoundToItsConnection(t *testing.T) {
	client, server := handshake(t, tls.VersionTLS13)
	_, another := handshake(t, tls.VersionTLS13)
	key, cert := ecKey(t), []byte("a certificate")
	req, err := NewRenewal(&client, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.Verify(&server, &key.PublicKey); err != nil {
		t.Errorf("the relay at the other end does not accept it: %v", err)
	}
	if err := req.Verify(&another, &key.PublicKey); !errors.Is(err, ErrProof) {
		t.Errorf("sent again on another connection: %v, want ErrProof", err)
	}
	if err := req.Verify(&server, &ecKey(t).PublicKey); !errors.Is(err, ErrProof) {
		t.Errorf("for another key: %v, want ErrProof", err)
	}
	other := req
	other.Certificate = []byte("another certificate")
	if err := other.Verify(&server, &key.PublicKey); !errors.Is(err, ErrProof) {
		t.Errorf("for another certificate: %v, want ErrProof", err)
	}
	other = req
	other.Proof = nil
	if err := other.Verify(&server, &key.PublicKey); !errors.Is(err, ErrProof) {
		t.Errorf("without a proof: %v, want ErrProof", err)
	}
}

func TestRenewalNeedsTLS13(t *testing.T) {
	client, server := handshake(t, tls.VersionTLS12)
	key := ecKey(t)
	if _, err := NewRenewal(&client, []byte("c"), key); err == nil {
		t.Error("a renewal was made for TLS 1.2")
	}
	if err := (Renewal{Certificate: []byte("c"), Proof: []byte("p")}).Verify(&server, &key.PublicKey); err == nil || errors.Is(err, ErrProof) {
		t.Errorf("TLS 1.2: %v", err)
	}
	if err := (Renewal{}).Verify(nil, &key.PublicKey); err == nil {
		t.Error("a renewal without TLS was accepted")
	}
}
