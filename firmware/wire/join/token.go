package join

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Prefix starts every token: it names the format, and makes a token that leaked into a log easy to search for.
const Prefix = "skt1."

// SecretSize is the length of a token's secret in bytes.
const SecretSize = 32

// Limits of a token's parts, in bytes. A P-256 CA certificate has about 400.
const (
	maxID    = 32
	maxNode  = 253
	maxCA    = 4096
	checkLen = 4
	maxToken = len(Prefix) + (1+maxID+SecretSize+1+maxNode+2+maxCA+checkLen)*4/3 + 4
)

// Token lets one node enrol once. The secret is known to the operator and the gateway only; the cluster keeps its hash.
type Token struct {
	ID     string // lower-case letters and digits
	Secret [SecretSize]byte
	Node   string
	CA     *x509.Certificate // the only root that the gateway trusts for its relay
}

// Errors of ParseToken, for errors.Is.
var (
	ErrNotToken   = errors.New("this is not a Skerry join token")
	ErrCutToken   = errors.New("the join token is incomplete or altered")
	ErrTokenNewer = errors.New("the join token has a format that this version does not know")
)

// String encodes the token. It holds the secret: print it only where the operator asked for it.
func (t Token) String() string {
	b := make([]byte, 0, 512)
	b = append(b, byte(len(t.ID)))
	b = append(b, t.ID...)
	b = append(b, t.Secret[:]...)
	b = append(b, byte(len(t.Node)))
	b = append(b, t.Node...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.CA.Raw)))
	b = append(b, t.CA.Raw...)
	sum := sha256.Sum256(b)
	b = append(b, sum[:checkLen]...)
	return Prefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken decodes a token as an operator pasted it; white space around and inside it (a terminal's line breaks) is
// ignored. Its errors say what to do and never repeat the token.
func ParseToken(s string) (Token, error) {
	if len(s) > 2*maxToken {
		return Token{}, fmt.Errorf("%w: it is longer than any token; copy the one line that `skerryctl token create` printed", ErrNotToken)
	}
	s = strings.Join(strings.Fields(s), "")
	body, ok := strings.CutPrefix(s, Prefix)
	switch {
	case ok:
	case strings.HasPrefix(s, "skt"):
		return Token{}, fmt.Errorf("%w: it does not start with %q; update this agent, or create the token with a skerryctl of the agent's version", ErrTokenNewer, Prefix)
	default:
		return Token{}, fmt.Errorf("%w: a token starts with %q; copy the one line that `skerryctl token create --node NAME` printed", ErrNotToken, Prefix)
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || len(raw) < checkLen {
		return Token{}, fmt.Errorf("%w: copy it again, all %s…", ErrCutToken, Prefix)
	}
	payload, check := raw[:len(raw)-checkLen], raw[len(raw)-checkLen:]
	if sum := sha256.Sum256(payload); !bytes.Equal(sum[:checkLen], check) {
		return Token{}, fmt.Errorf("%w: its checksum does not match; copy it again from start to end", ErrCutToken)
	}
	return decode(payload)
}

func decode(b []byte) (Token, error) {
	var t Token
	id, b, err := field(b, 1, maxID, "id")
	if err != nil {
		return Token{}, err
	}
	if t.ID = string(id); !ValidID(t.ID) {
		return Token{}, fmt.Errorf("%w: its id has letters that no id has", ErrCutToken)
	}
	if len(b) < SecretSize {
		return Token{}, fmt.Errorf("%w: its secret is cut short", ErrCutToken)
	}
	b = b[copy(t.Secret[:], b):]
	node, b, err := field(b, 1, maxNode, "node name")
	if err != nil {
		return Token{}, err
	}
	t.Node = string(node)
	ca, b, err := field(b, 2, maxCA, "CA certificate")
	if err != nil {
		return Token{}, err
	}
	if len(b) != 0 {
		return Token{}, fmt.Errorf("%w: %d bytes too many", ErrCutToken, len(b))
	}
	if t.CA, err = x509.ParseCertificate(ca); err != nil {
		return Token{}, fmt.Errorf("%w: its CA certificate does not parse: %w", ErrCutToken, err)
	}
	if !t.CA.IsCA || !t.CA.BasicConstraintsValid {
		return Token{}, fmt.Errorf("%w: the certificate in it is not a CA's", ErrCutToken)
	}
	return t, nil
}

// field cuts a length-prefixed field off b.
func field(b []byte, lenBytes, limit int, what string) (value, rest []byte, err error) {
	if len(b) < lenBytes {
		return nil, nil, fmt.Errorf("%w: its %s is cut short", ErrCutToken, what)
	}
	n := 0
	for _, c := range b[:lenBytes] {
		n = n<<8 | int(c)
	}
	b = b[lenBytes:]
	if n == 0 || n > limit || n > len(b) {
		return nil, nil, fmt.Errorf("%w: its %s says it has %d bytes", ErrCutToken, what, n)
	}
	return b[:n], b[n:], nil
}

// ValidID says whether s can be a token's id. Ids become part of a Secret's name, so a peer may not choose the letters.
func ValidID(s string) bool {
	if s == "" || len(s) > maxID {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
