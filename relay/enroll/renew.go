package enroll

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
)

// Renewals of one node, on average and at once. A gateway renews once in two thirds of its certificate's life; more often
// only if it cannot save what it gets.
const (
	renewalsPerSecond = 0.2
	renewalsBurst     = 10
)

// renew judges one renewal. An expired certificate is as good as a valid one here, and nowhere else. The answer is for the
// key that has the certificate already, so that it is worth nothing to anybody else.
func (s *Server) renew(_ context.Context, cs *tls.ConnectionState, body []byte) (resp *join.Response, node string, err error) {
	req, key, node, refusal := parseRenewal(body, s.opts.CA)
	if refusal != nil {
		return nil, "", refusal
	}
	if err := req.Verify(cs, key); errors.Is(err, join.ErrProof) {
		return nil, node, refuse(join.CodeBadProof, "", "the renewal for node %q is not proven by its certificate's key on this connection", node)
	} else if err != nil {
		return nil, node, refuse(join.CodeBadRequest, "let nothing between gateway and relay open TLS", "%v", err)
	}
	// Only who has proven to be the node counts against it, or is told about it.
	if !s.renewals.allow(node, s.opts.Now()) {
		return nil, node, refuse(join.CodeBusy, "look into the gateway's log: it may be unable to save what it gets", "node %q renews its certificate too often", node)
	}
	if err := s.mayHave(node); err != nil {
		return nil, node, err
	}
	resp, err = s.issue(node, key)
	return resp, node, err
}

// parseRenewal checks what the request shows by itself: that the certificate is a node's, and once was valid.
func parseRenewal(body []byte, ca *CA) (req join.Renewal, key *ecdsa.PublicKey, node string, _ *join.Refusal) {
	if err := json.Unmarshal(body, &req); err != nil || len(req.Certificate) == 0 || len(req.Proof) == 0 {
		return join.Renewal{}, nil, "", refuse(join.CodeBadRequest, "update the agent, or check what sends to this address", "the request is not a renewal")
	}
	cert, err := x509.ParseCertificate(req.Certificate)
	if err != nil {
		return req, nil, "", refuse(join.CodeBadRequest, "", "the certificate cannot be parsed")
	}
	// At the time when it became valid: whether it has expired since does not matter, whose it is does.
	_, err = cert.Verify(x509.VerifyOptions{Roots: ca.Pool(), CurrentTime: cert.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return req, nil, "", refuse(join.CodeBadCert, "join anew with a token from `skerryctl token create --node NAME`, on this relay's cluster",
			"the certificate is not one of this installation's CA")
	}
	if node, err = join.NodeOf(cert); err != nil {
		return req, nil, "", refuse(join.CodeBadCert, "", "%v", err)
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return req, nil, node, refuse(join.CodeBadKey, "", "the certificate is not for an ECDSA P-256 key")
	}
	return req, key, node, nil
}

// mayHave says whether a node that has proven itself may have a certificate.
func (s *Server) mayHave(node string) error {
	if !s.opts.Synced() {
		return refuse(join.CodeUnavailable, "try again in some seconds", "the relay is starting and does not know yet which nodes are revoked")
	}
	if s.opts.Revoked(node) {
		return refuseRevoked(node)
	}
	return nil
}

// issue signs a certificate for a node that may have one, and adds what the gateway should know besides.
func (s *Server) issue(node string, key *ecdsa.PublicKey) (*join.Response, error) {
	now := s.opts.Now()
	cert, err := s.opts.CA.issueNode(node, key, now, s.opts.Lifetime)
	if err != nil {
		return nil, err
	}
	resp := &join.Response{Node: node, Chain: [][]byte{cert.Raw}, Time: now.UTC().Truncate(time.Millisecond)}
	for _, c := range s.opts.CA.roots {
		resp.Roots = append(resp.Roots, c.Raw)
	}
	return resp, nil
}
