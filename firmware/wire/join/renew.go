package join

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
)

// RenewPath is where a relay takes renewals.
const RenewPath = "/v1/renew"

// renewLabel keeps the exported bytes apart from every other use of the connection's secrets (RFC 8446, section 7.5).
const renewLabel = "EXPORTER-skerry-renewal"

const bindingSize = 32 // bytes

// Renewal asks for a successor of a node's certificate, for the same key. It comes over a TLS connection without a client
// certificate, because the certificate may have expired.
type Renewal struct {
	Certificate []byte `json:"certificate"` // DER, the one that the node holds
	// Proof is an ECDSA signature (ASN.1) of the certificate's key over this very TLS connection and the certificate.
	Proof []byte `json:"proof"`
}

// ErrProof is returned for a renewal that does not prove the possession of the certificate's key.
var ErrProof = errors.New("the proof is not one of the certificate's key for this connection")

// NewRenewal makes the request for the connection whose state is given. On another connection it is worth nothing: not
// even who has read it can send it again.
func NewRenewal(cs *tls.ConnectionState, certificate []byte, key *ecdsa.PrivateKey) (Renewal, error) {
	digest, err := renewalDigest(cs, certificate)
	if err != nil {
		return Renewal{}, err
	}
	proof, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return Renewal{}, fmt.Errorf("sign the renewal: %w", err)
	}
	return Renewal{Certificate: certificate, Proof: proof}, nil
}

// Verify checks the proof with the key of the certificate. It fails with ErrProof. That the certificate is a node's is
// the caller's to check.
func (r Renewal) Verify(cs *tls.ConnectionState, key *ecdsa.PublicKey) error {
	digest, err := renewalDigest(cs, r.Certificate)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(key, digest[:], r.Proof) {
		return ErrProof
	}
	return nil
}

func renewalDigest(cs *tls.ConnectionState, certificate []byte) ([sha256.Size]byte, error) {
	if cs == nil || cs.Version < tls.VersionTLS13 {
		return [sha256.Size]byte{}, errors.New("a renewal needs a TLS 1.3 connection from end to end: nothing between may open it")
	}
	binding, err := cs.ExportKeyingMaterial(renewLabel, nil, bindingSize)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("bind the renewal to its connection: %w", err)
	}
	const purpose = "skerry certificate renewal 1\x00"
	msg := make([]byte, 0, len(purpose)+len(binding)+len(certificate))
	msg = append(msg, purpose...)
	msg = append(msg, binding...)
	msg = append(msg, certificate...)
	return sha256.Sum256(msg), nil
}
