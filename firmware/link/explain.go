package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/firmware/proxy"
	"github.com/skerry/skerry/firmware/wire"
)

// explainDial turns a failed dial into one sentence for the technician: what failed, why, what to do. answered says that TCP
// was connected. It leaves out what changes from attempt to attempt (local ports), so that a cause has one text.
func explainDial(address string, resp *http.Response, err error, cfg *tls.Config, answered bool) error {
	now := time.Now()
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		return explainStatus(address, resp)
	}
	var hs *handshakeError
	var way *proxy.Error
	switch {
	case errors.As(err, &way):
		return fmt.Errorf("relay %s: %w", address, way)
	case speaksNoTLS(err):
		return fmt.Errorf("relay %s does not speak TLS: it is not a Skerry relay; check the address and the port", address)
	case isAlert(err):
		return explainAlert(address, err, cfg, now)
	case answered && isTimeout(err):
		return fmt.Errorf("relay %s takes the connection and then says nothing: it is not a Skerry relay, or it is overloaded; the agent goes on trying", address)
	case errors.As(err, &hs):
		return explainHandshake(address, hs.err, now)
	case resp != nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("relay %s took the connection and did not answer as a Skerry relay does: check the address", address)
	}
	return explainNetwork(address, err)
}

// speaksNoTLS reports whether the peer's first bytes were not TLS.
func speaksNoTLS(err error) bool {
	var rec tls.RecordHeaderError
	return errors.As(err, &rec)
}

func explainStatus(address string, resp *http.Response) error {
	why := bodyLine(resp)
	if resp.Header.Get(wire.HeaderRelay) == "" {
		return fmt.Errorf("%s answers HTTP %d: it is not a Skerry relay; check the address and the port", address, resp.StatusCode)
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized: // it was shown no certificate: a client leaves out one of a CA that the relay does not name
		return fmt.Errorf("relay %s refuses this gateway: %s, or one of a CA that was retired: the agent renews its certificate by itself; if it cannot, its log and 'skerryd status' say why", address, why)
	case http.StatusForbidden:
		return fmt.Errorf("relay %s refuses this gateway: %s: %s", address, why, joinAgain("NAME"))
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return fmt.Errorf("relay %s takes no agents at the moment: %s; the agent goes on trying", address, why)
	}
	return fmt.Errorf("relay %s answers HTTP %d: %s: are agent and relay of the same release?", address, resp.StatusCode, why)
}

// joinAgain is what to do about a gateway that a relay may have refused because its node is revoked: a token alone does not let it join,
// and nobody can make one.
func joinAgain(node string) string {
	return fmt.Sprintf("if the node was revoked, an operator has to run 'skerryctl node restore %[1]s' first; then join again with a new token from 'skerryctl token create --node %[1]s'", node)
}

func isAlert(err error) bool {
	var alert tls.AlertError
	return errors.As(err, &alert) || strings.Contains(err.Error(), "remote error: tls:")
}

// isExpiredAlert reports whether a relay refused the certificate because it has expired (RFC 8446, section 6.2). crypto/tls
// exports no type for alerts outside of QUIC, but the text.
func isExpiredAlert(err error) bool {
	return isAlert(err) && strings.Contains(err.Error(), "tls: expired certificate")
}

// explainAlert is about a relay that refused this gateway during the handshake (TLS 1.3: on the first read after it).
func explainAlert(address string, err error, cfg *tls.Config, now time.Time) error {
	text := err.Error()
	if i := strings.LastIndex(text, "tls: "); i >= 0 {
		text = text[i+len("tls: "):]
	}
	own := "this gateway has no certificate"
	if cert := ownCertificate(cfg); cert != nil {
		own = fmt.Sprintf("this gateway's certificate is for %q and valid from %s to %s; its clock says %s", cert.Subject.CommonName,
			stamp(cert.NotBefore), stamp(cert.NotAfter), clockMark)
	}
	if isExpiredAlert(err) {
		return newClockError(now, "relay %s refuses this gateway's certificate (%s): %s: the agent renews it by itself; if it cannot, its log and 'skerryd status' say why", address, text, own)
	}
	return newClockError(now, "relay %s refuses this gateway's certificate (%s): %s: set the clock (NTP) if it is wrong; otherwise %s", address, text, own, joinAgain("NAME"))
}

func ownCertificate(cfg *tls.Config) *x509.Certificate {
	if cfg == nil || len(cfg.Certificates) == 0 {
		return nil
	}
	c := cfg.Certificates[0]
	if c.Leaf != nil || len(c.Certificate) == 0 {
		return c.Leaf
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// explainHandshake is about a relay that this gateway does not accept.
func explainHandshake(address string, err error, now time.Time) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return newClockError(now, "relay %s: its certificate is valid from %s to %s, and this gateway's clock says %s: set the clock (NTP) if it is wrong, otherwise renew the relay's certificate",
			address, stamp(invalid.Cert.NotBefore), stamp(invalid.Cert.NotAfter), clockMark)
	case errors.As(err, &unknown):
		return fmt.Errorf("relay %s: its certificate is not signed by the CA that this gateway joined with: check the address; if the relay has a new CA, join again with a token from 'skerryctl token create --node NAME'", address)
	case errors.As(err, &name):
		return fmt.Errorf("relay %s: its certificate is for other names (%w): it is not a Skerry relay of this installation; check the address and the port", address, name)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("relay %s closes the connection during the TLS handshake: it is not a Skerry relay, or something between (firewall, proxy) cuts it off", address)
	}
	return fmt.Errorf("relay %s: TLS handshake: %w: is it a Skerry relay? check the address and the port", address, innermost(err))
}

// explainNetwork is about an address that does not answer.
func explainNetwork(address string, err error) error {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("relay %s: the name %q cannot be resolved (%s): check the address and the gateway's DNS server", address, dns.Name, dns.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("relay %s does not answer (connection refused): the relay is not running, or the port is wrong; the agent goes on trying", address)
	case isTimeout(err):
		return fmt.Errorf("relay %s does not answer (timeout): the relay or the network between is down, or a firewall drops the packets; the agent goes on trying", address)
	}
	return fmt.Errorf("relay %s does not answer (%w): check address and network; the agent goes on trying", address, innermost(err))
}

// explainLoss is about a connection that was up and broke.
func explainLoss(address string, err error) error {
	switch {
	case err == nil:
		return nil
	case isAlert(err):
		return explainAlert(address, err, nil, time.Now())
	case errors.Is(err, wire.ErrFrame), errors.Is(err, wire.ErrUnknownFrame):
		return fmt.Errorf("relay %s sent what this agent does not understand: %w: are agent and relay of the same release?", address, err)
	case websocket.CloseStatus(err) != -1:
		return fmt.Errorf("relay %s closed the connection (WebSocket status %d)", address, websocket.CloseStatus(err))
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("relay %s: the connection was closed", address)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("relay %s: the connection broke: the relay or the network between went away", address)
	}
	return fmt.Errorf("relay %s: the connection broke: %w", address, innermost(err))
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || (errors.As(err, &n) && n.Timeout())
}

// innermost strips wrappers that name local ports and file descriptors.
func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// clockError is an error whose text names the present time. Its cause does not, so that the same cause is recognised.
type clockError struct{ text, cause string }

const clockMark = "<clock>"

// newClockError makes an error from a text in which clockMark stands for the time.
func newClockError(now time.Time, format string, args ...any) *clockError {
	cause := fmt.Sprintf(format, args...)
	return &clockError{text: strings.Replace(cause, clockMark, stamp(now), 1), cause: cause}
}

func (e *clockError) Error() string { return e.text }

// causeOf returns the part of an error's text that stays the same while its cause does.
func causeOf(err error) string {
	var c *clockError
	if errors.As(err, &c) {
		return c.cause
	}
	return err.Error()
}
