package kubelet

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// peerName is the TLS server name by which relays speak to each other on the kubelet port. It is in every relay's certificate.
const peerName = "kubelet.relay.skerry.internal"

// peerURI is the prefix of the name in a relay's certificate: a gateway's begins otherwise.
const peerURI = "skerry://relay/"

// PeerNames returns what a relay's certificate for other relays must say: Enroll's CA signs it.
func PeerNames(relay string) (dns, uri string) { return peerName, peerURI + relay }

// tlsConfig tells relays from all others by the server name that they ask for: relays must show a relay's certificate, which the handshake
// verifies; others may show one of the API server's CA, which is verified for each request, so that the answer can say what is wrong.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if hello.ServerName != peerName {
				return nil, nil
			}
			id, err := s.o.Identity()
			if err != nil {
				return nil, err
			}
			return &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
				Certificates: []tls.Certificate{*id.Certificate}, ClientCAs: id.Roots, ClientAuth: tls.RequireAndVerifyClientCert,
				// A ticket would outlive the CA's trust.
				SessionTicketsDisabled: true,
				VerifyConnection:       onlyRelays,
			}, nil
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.serving.get() },
		ClientAuth:     tls.RequestClientCert,
	}
}

// onlyRelays keeps out what else the CA has signed: gateways.
func onlyRelays(c tls.ConnectionState) error {
	if relayOf(c) == "" {
		return errors.New("the certificate is not a relay's")
	}
	return nil
}

func relayOf(c tls.ConnectionState) string {
	if c.ServerName != peerName || len(c.VerifiedChains) == 0 || len(c.PeerCertificates) == 0 {
		return ""
	}
	leaf := c.PeerCertificates[0]
	if len(leaf.URIs) != 1 {
		return ""
	}
	name, ok := strings.CutPrefix(leaf.URIs[0].String(), peerURI)
	if !ok {
		return ""
	}
	return name
}

// fromPeer returns the node of a request that another relay sends.
func (s *Server) fromPeer(r *http.Request) (node string, ok bool) {
	if r.TLS == nil || relayOf(*r.TLS) == "" {
		return "", false
	}
	return r.Header.Get(nodeHeader), true
}

// servingCertificate is what others than relays see: from files, or one of Skerry's CA, which nobody else can verify.
type servingCertificate struct {
	cert, key string
	identity  func() (Identity, error)

	mu     sync.Mutex
	have   *tls.Certificate
	looked time.Time
	stamp  [2]time.Time
}

const certificateLook = 10 * time.Second // how often the files are looked at, while there are handshakes

func newServingCertificate(cert, key string, identity func() (Identity, error)) (*servingCertificate, error) {
	c := &servingCertificate{cert: cert, key: key, identity: identity}
	if cert == "" {
		return c, nil
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *servingCertificate) get() (*tls.Certificate, error) {
	if c.cert == "" {
		id, err := c.identity()
		if err != nil {
			return nil, err
		}
		return id.Certificate, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) > certificateLook {
		// What was read before goes on while the new one is only half written.
		_ = c.loadLocked()
	}
	return c.have, nil
}

func (c *servingCertificate) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loadLocked()
}

func (c *servingCertificate) loadLocked() error {
	c.looked = time.Now()
	var stamp [2]time.Time
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("serving certificate of the kubelet port: %w", err)
		}
		stamp[i] = info.ModTime()
	}
	if c.have != nil && stamp == c.stamp {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("serving certificate of the kubelet port (kubelet.certFile, kubelet.keyFile): %w", err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return fmt.Errorf("serving certificate of the kubelet port: %w", err)
		}
	}
	c.have, c.stamp = &pair, stamp
	return nil
}
