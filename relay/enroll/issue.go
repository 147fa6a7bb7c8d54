package enroll

import (
	"crypto"
	"crypto/tls"
	"time"
)

// IssueNode signs a gateway's certificate with the CA, without a token: for rigs and simulators that hold the CA and want
// thousands of identities. Gateways join through Server.
func (ca *CA) IssueNode(node string, key crypto.Signer, now time.Time, life time.Duration) (tls.Certificate, error) {
	leaf, err := ca.issueNode(node, key.Public(), now, time.Time{}, life)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}, nil
}
