package hub

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/session"
)

// facts are what is remembered of a session's certificate: little, because there are thousands.
type facts struct {
	issued, expires int64  // Unix seconds
	issuer          Issuer // whose CA it is
}

// Issuer names a CA: the first bytes of its key's identifier, which stands in each certificate that it signs (RFC 5280, section
// 4.2.1.1).
type Issuer uint64

// IssuerOf returns the CA that signed c. For a CA's own certificate use KeyOf.
func IssuerOf(c *x509.Certificate) Issuer { return issuer(c.AuthorityKeyId) }

// KeyOf returns the Issuer that stands in the certificates that the CA c signs.
func KeyOf(c *x509.Certificate) Issuer { return issuer(c.SubjectKeyId) }

func issuer(id []byte) Issuer {
	var b [8]byte
	copy(b[:], id)
	return Issuer(binary.BigEndian.Uint64(b[:]))
}

func factsOf(c *x509.Certificate) facts {
	return facts{issued: c.NotBefore.Unix(), expires: c.NotAfter.Unix(), issuer: IssuerOf(c)}
}

// unfit says why a certificate opens no session, or keeps none open any more; why is for metrics, and "" if it is fit.
func (h *Hub) unfit(node string, c facts, now time.Time) (why, text string) {
	if h.opts.Refused != nil {
		if text := h.opts.Refused(node, time.Unix(c.issued, 0)); text != "" {
			return "revoked", text
		}
	}
	if h.opts.Trusted != nil && !h.opts.Trusted(c.issuer) {
		return "other-ca", "the certificate is of a CA that is not trusted any more"
	}
	if now.Unix() > c.expires {
		return "expired", fmt.Sprintf("the certificate has expired at %s", time.Unix(c.expires, 0).UTC().Format(time.RFC3339))
	}
	return "", ""
}

func (h *Hub) tlsConfig() *tls.Config {
	cfg := h.opts.TLS.Clone()
	cfg.MinVersion = tls.VersionTLS13
	cfg.ClientAuth = tls.VerifyClientCertIfGiven // enrolment comes without one
	cfg.NextProtos = []string{"http/1.1"}
	cfg.DynamicRecordSizingDisabled = true // a commit is one record and one system call, not one for each packet
	cfg.VerifyConnection = h.verify
	if h.opts.ClientCAs != nil {
		// Connections keep their configuration, so they share one for as long as the CAs are the same.
		var (
			mu   sync.Mutex
			last *tls.Config
		)
		base := cfg
		cfg = base.Clone()
		cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			pool := h.opts.ClientCAs()
			mu.Lock()
			defer mu.Unlock()
			if last == nil || last.ClientCAs != pool {
				last = base.Clone()
				last.ClientCAs = pool
			}
			return last, nil
		}
	}
	return cfg
}

// verify keeps revoked nodes and expired certificates out. Unlike VerifyPeerCertificate it runs for resumed TLS sessions too.
func (h *Hub) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	h.meter.handshake(cs.DidResume)
	cert := cs.PeerCertificates[0]
	node, err := join.NodeOf(cert)
	if err != nil {
		return &unfitError{reason: "not-a-node", text: err.Error()}
	}
	if why, text := h.unfit(node, factsOf(cert), time.Now()); why != "" {
		return &unfitError{why, node, text}
	}
	return nil
}

// unfitError ends a TLS handshake. verify is not told from where the certificate came; http.Server is, and passes both on as a line
// of text, so serverErrors counts and tells of it, once.
type unfitError struct{ reason, node, text string }

const unfitMark = "unfit certificate " // no error of crypto/tls begins like this, whatever the peer sends

func (e *unfitError) Error() string { return unfitMark + e.reason + " " + e.node + ": " + e.text }

// parseUnfit is Error's other end.
func parseUnfit(line string) (e unfitError, ok bool) {
	rest, marked := strings.CutPrefix(line, unfitMark)
	head, text, hasText := strings.Cut(rest, ": ")
	reason, node, hasNode := strings.Cut(head, " ")
	return unfitError{reason, node, text}, marked && hasText && hasNode
}

// Revoke ends the node's session at once, if it has one. That it cannot come back is Options.Refused's part.
func (h *Hub) Revoke(node string) {
	h.shut(node, 0, session.Shut{Code: wire.CloseRevoked, Reason: "the node was revoked"})
}

// Recheck ends the node's session if its certificate does not keep it open any more: Options.Refused says something else now.
func (h *Hub) Recheck(node string) {
	h.mu.Lock()
	a := h.sessions[node]
	h.mu.Unlock()
	if a != nil {
		a.recheck(time.Now())
	}
}

// RecheckAll does it for all sessions: Options.Trusted says something else now.
func (h *Hub) RecheckAll() {
	now := time.Now()
	for _, a := range h.snapshot() {
		a.recheck(now)
	}
}

func (a *agent) recheck(now time.Time) {
	why, text := a.h.unfit(a.node, a.cert, now)
	switch why {
	case "":
	case "revoked":
		a.step(session.Shut{Code: wire.CloseRevoked, Reason: text})
	default: // the agent has renewed its certificate, or does now, and comes again
		a.step(session.Shut{Code: wire.CloseCertificate, Reason: text})
	}
}
