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

// DefaultAbsence is how long after its end a certificate can be renewed. Without a bound the list of revoked nodes could never
// forget anybody.
const DefaultAbsence = 3 * 365 * 24 * time.Hour

// renew judges one renewal. An expired certificate is as good as a valid one here, and nowhere else. The answer is for the
// key that has the certificate already, so that it is worth nothing to anybody else.
func (s *Server) renew(_ context.Context, cs *tls.ConnectionState, body []byte) (resp *join.Response, node string, err error) {
	ca := s.opts.CA()
	req, cert, node, refusal := parseRenewal(body, ca, s.opts.Now(), s.opts.Absence)
	if refusal != nil {
		return nil, "", refusal
	}
	key := cert.PublicKey.(*ecdsa.PublicKey) // parseRenewal takes no other
	if err := req.Verify(cs, key); errors.Is(err, join.ErrProof) {
		return nil, node, refuse(join.CodeBadProof, "", "the renewal for node %q is not proven by its certificate's key on this connection", node)
	} else if err != nil {
		return nil, node, refuse(join.CodeBadRequest, "let nothing between gateway and relay open TLS", "%v", err)
	}
	// Only who has proven to be the node counts against it, or is told about it.
	if !s.renewals.allow(node, s.opts.Now()) {
		return nil, node, refuse(join.CodeBusy, "look into the gateway's log: it may be unable to save what it gets", "node %q renews its certificate too often", node)
	}
	if after, ok := s.gate.pass(s.opts.Now()); !ok {
		return nil, node, &busy{refuse(join.CodeBusy, "nothing: the gateway comes again by itself", "many gateways renew their certificates now"), after}
	}
	if err := s.mayHave(node, cert.NotBefore); err != nil {
		return nil, node, err
	}
	if ended := s.opts.Now().Sub(cert.NotAfter); ended > s.opts.Absence {
		return nil, node, refuse(join.CodeBadCert, "join anew: "+createAnother(node), "the certificate of node %q ended %d days ago, and can be renewed for %d", node, ended/day, s.opts.Absence/day)
	}
	resp, err = s.issue(ca, node, key)
	return resp, node, err
}

const day = 24 * time.Hour

// parseRenewal checks what the request shows by itself: that the certificate is a node's, and once was valid.
func parseRenewal(body []byte, ca *CA, now time.Time, absence time.Duration) (req join.Renewal, _ *x509.Certificate, node string, _ *join.Refusal) {
	if err := json.Unmarshal(body, &req); err != nil || len(req.Certificate) == 0 || len(req.Proof) == 0 {
		return join.Renewal{}, nil, "", refuse(join.CodeBadRequest, "update the agent, or check what sends to this address", "the request is not a renewal")
	}
	cert, err := x509.ParseCertificate(req.Certificate)
	if err != nil {
		return req, nil, "", refuse(join.CodeBadRequest, "", "the certificate cannot be parsed")
	}
	// At the time when it became valid: whether it has expired since does not matter, whose it is does. That of a retired CA will
	// do: its key is destroyed, and what it signed can have been signed in its time only. Should there be a copy of the key in an
	// old backup, it is good for nothing any more when the last honest certificate is not.
	_, err = cert.Verify(x509.VerifyOptions{Roots: ca.renewable(now, absence), CurrentTime: cert.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	for _, r := range ca.retired {
		if err != nil && r.ended(now, absence) && cert.CheckSignatureFrom(r.cert) == nil {
			return req, nil, "", refuse(join.CodeBadCert, "join anew with a token from `skerryctl token create --node NAME`",
				"the certificate is of %s, which was retired on %s: it could be renewed for %d days", r.cert.Subject.CommonName, r.at.Format(time.DateOnly), (MaxLifetime+absence)/day)
		}
	}
	if err != nil {
		return req, nil, "", refuse(join.CodeBadCert, "join anew with a token from `skerryctl token create --node NAME`, on this relay's cluster",
			"the certificate is not one of this installation's CA")
	}
	if node, err = join.NodeOf(cert); err != nil {
		return req, nil, "", refuse(join.CodeBadCert, "", "%v", err)
	}
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return req, nil, node, refuse(join.CodeBadKey, "", "the certificate is not for an ECDSA P-256 key")
	}
	return req, cert, node, nil
}

// mayHave says whether a node that has proven itself may have a certificate. issued is the beginning of the one that it has.
func (s *Server) mayHave(node string, issued time.Time) error {
	if !s.opts.Revoked.Synced() {
		return refuse(join.CodeUnavailable, "try again in some seconds", "the relay is starting and does not know yet which nodes are revoked")
	}
	if reason := s.opts.Revoked.Refused(node, issued); reason != "" {
		if s.opts.Revoked.Refused(node, s.opts.Now()) == "" { // restored
			return refuse(join.CodeRevoked, "join anew: "+createAnother(node), "%s", reason)
		}
		return refuseRevoked(node)
	}
	return nil
}

// issue signs a certificate for a node that may have one, and adds what the gateway should know besides.
func (s *Server) issue(ca *CA, node string, key *ecdsa.PublicKey) (*join.Response, error) {
	now := s.opts.Now()
	after := s.opts.Revoked.NotBefore(node)
	if ahead := after.Sub(now); ahead > 0 {
		s.opts.Log.Warn("the certificate of a node that was revoked once begins in the future: the clocks of this relay and of who revoked it differ", "node", node, "by", ahead)
	}
	cert, err := ca.issueNode(node, key, now, after, s.opts.Lifetime)
	if err != nil {
		return nil, err
	}
	resp := &join.Response{Node: node, Chain: ca.chain(cert), Time: now.UTC().Truncate(time.Millisecond)}
	for _, c := range ca.roots {
		resp.Roots = append(resp.Roots, c.Raw)
	}
	return resp, nil
}
