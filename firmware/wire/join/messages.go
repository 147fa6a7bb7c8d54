package join

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Path is where a relay takes enrolment requests.
const Path = "/v1/enroll"

// MaxBody bounds requests and answers, in bytes.
const MaxBody = 16 << 10

// ServerName is in every relay's serving certificate, and is the name that agents verify, whatever address they dial: a
// gateway reaches its relay by a host name today, and through a mobile operator's NAT address tomorrow. That names cannot be
// told apart costs nothing: only relays hold certificates of this CA for server authentication.
const ServerName = "relay.skerry.internal"

// Organisation is the one that marks a certificate as a node's, as Kubernetes has it.
const Organisation = "system:nodes"

// CommonName is the name in a node's certificate.
func CommonName(node string) string { return "system:node:" + node }

// URI is the subject alternative name in a node's certificate.
func URI(node string) string { return "skerry://node/" + node }

// NodeOf returns the node that a verified certificate identifies. It wants all three marks, and that they agree: a
// certificate of another use of the same CA is not a node's.
func NodeOf(c *x509.Certificate) (string, error) {
	node, ok := strings.CutPrefix(c.Subject.CommonName, "system:node:")
	switch {
	case !ok || node == "":
		return "", fmt.Errorf("certificate %q is not a node's: its common name does not have the prefix system:node", c.Subject.CommonName)
	case len(c.Subject.Organization) != 1 || c.Subject.Organization[0] != Organisation:
		return "", fmt.Errorf("certificate %q is not a node's: its organisation is not %s", c.Subject.CommonName, Organisation)
	case len(c.URIs) != 1 || c.URIs[0].String() != URI(node):
		return "", fmt.Errorf("certificate %q is not a node's: it lacks the name %s", c.Subject.CommonName, URI(node))
	}
	return node, nil
}

// Annotations by which a gateway's Node says what certificate the gateway has. The agent reports them; nothing but statistics is
// judged by them, and whether a CA may be retired.
const (
	AnnotationCA       = "skerry.dev/certificate-authority" // the common name of the CA
	AnnotationNotAfter = "skerry.dev/certificate-not-after" // RFC 3339
)

// Request asks for a node's certificate. The relay takes only the key from the CSR; names and usages are its own.
type Request struct {
	TokenID string `json:"tokenID"`
	Secret  []byte `json:"secret"`
	Node    string `json:"node"`
	CSR     []byte `json:"csr"` // DER, PKCS #10 (RFC 2986), signed by the key that it asks for
}

// Response carries the certificate.
type Response struct {
	Node string `json:"node"`
	// Chain is the node's certificate, and intermediates if there are any, in DER.
	Chain [][]byte `json:"chain"`
	// Roots are the CAs by which the gateway verifies relays from now on, in DER.
	Roots [][]byte `json:"roots"`
	// Time is the relay's clock when it signed, by which the gateway can tell that its own is wrong.
	Time time.Time `json:"time"`
}

// Code is a reason to refuse, for programs.
type Code string

// The reasons for which a relay refuses.
const (
	CodeBadRequest   Code = "bad_request"       // not JSON, a field is missing, or the CSR is not one
	CodeUnknownToken Code = "token_unknown"     // no such token, or another secret; the two look the same from outside
	CodeExpired      Code = "token_expired"     // the token's time is over
	CodeWrongNode    Code = "token_wrong_node"  // the token is another node's
	CodeUsed         Code = "token_used"        // the token is bound to another key
	CodeRevoked      Code = "node_revoked"      // the operator revoked the node
	CodeBadProof     Code = "bad_proof"         // the CSR is not signed by its own key
	CodeBadKey       Code = "bad_key"           // the key is of a kind that is not accepted
	CodeBadCert      Code = "bad_certificate"   // the certificate to renew is not a node's, or of another CA
	CodeBusy         Code = "too_many_requests" // try again later
	CodeUnavailable  Code = "unavailable"       // the relay cannot reach Kubernetes; try again later
)

// Status returns the HTTP status that goes with the code.
func (c Code) Status() int {
	switch c {
	case CodeUnknownToken:
		return http.StatusUnauthorized
	case CodeExpired, CodeWrongNode, CodeRevoked, CodeBadCert:
		return http.StatusForbidden
	case CodeUsed:
		return http.StatusConflict
	case CodeBusy:
		return http.StatusTooManyRequests
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// Temporary says whether the same request may succeed later.
func (c Code) Temporary() bool { return c == CodeBusy || c == CodeUnavailable }

// Refusal is the relay's answer when it does not sign, and the agent's error.
type Refusal struct {
	Code    Code   `json:"code"`
	Message string `json:"message"` // what is wrong
	Remedy  string `json:"remedy"`  // what the operator can do
}

// Error says all in one line.
func (r *Refusal) Error() string {
	if r.Remedy == "" {
		return fmt.Sprintf("%s (%s)", r.Message, r.Code)
	}
	return fmt.Sprintf("%s (%s): %s", r.Message, r.Code, r.Remedy)
}
