package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
)

// EnrollOptions configures Enroll. Addresses, Token and Dir are required.
type EnrollOptions struct {
	Addresses []string // relays, HOST:PORT, tried in turn
	Token     string   // as `skerryctl token create` printed it
	Node      string   // the name that this gateway is configured with; must be the token's. Default: the token's
	Dir       string   // where the identity is kept; made if it is missing
	// Dial opens the TCP connection that TLS then runs over, a proxy's for one; default a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger

	now   func() time.Time // the gateway's clock; tests set it
	save  func(*record) error
	pause func(attempt int) time.Duration
}

// Enroll makes this gateway the token's node: it makes a key, proves it to the relay, and saves the certificate. It tries
// again, with growing pauses, while no relay answers or a relay is busy, until ctx ends; a refusal (*join.Refusal) ends it
// at once. After a power cut at any moment it can be called again with the same token.
func Enroll(ctx context.Context, o EnrollOptions) (*Identity, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.save == nil {
		o.save = func(r *record) error { return writeRecord(o.Dir, current, r) }
	}
	if o.pause == nil {
		o.pause = pause
	}
	if len(o.Addresses) == 0 {
		return nil, errors.New("no relay address is configured: set relay.addresses to HOST:PORT of the relay")
	}
	token, err := join.ParseToken(o.Token)
	if err != nil {
		return nil, err
	}
	if o.Node != "" && o.Node != token.Node {
		return nil, fmt.Errorf("the token is for node %q, and this gateway is configured as node %q: create a token with `skerryctl token create --node %s`, or set node.name to %q",
			token.Node, o.Node, o.Node, token.Node)
	}
	key, rec, err := prepareKey(o.Dir, token)
	if err != nil {
		return nil, fmt.Errorf("prepare this gateway's key in %s: %w", o.Dir, err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate request: %w", err)
	}
	req := join.Request{TokenID: token.ID, Secret: token.Secret[:], Node: token.Node, CSR: csr}
	resp, err := ask(ctx, o, token, req)
	if err != nil {
		return nil, err
	}
	rec.Chain, rec.Roots, rec.Issued = resp.Chain, resp.Roots, resp.Time
	id, err := checkAnswer(rec, token)
	if err != nil {
		return nil, fmt.Errorf("the relay's answer cannot be used: %w", err)
	}
	warnOfClock(o, resp.Time)
	if err := o.save(rec); err != nil {
		return nil, fmt.Errorf("save the identity in %s: %w: free the disk or mend its permissions, then join again with the same token", o.Dir, err)
	}
	if err := removeRecord(o.Dir, pending); err != nil {
		o.Log.Warn("the identity is saved; the leftovers of joining could not be removed", "dir", o.Dir, "error", err)
	}
	return id, nil
}

// prepareKey returns the key to enrol with. A token is bound to the first key that uses it, so the key that an earlier
// attempt with this token used is used again: the one of an attempt that was cut off, or the one of an attempt that succeeded.
func prepareKey(dir string, token join.Token) (*ecdsa.PrivateKey, *record, error) {
	serial := uint64(0)
	for _, name := range []string{current, pending} {
		rec, _, err := readRecord(dir, name)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
				continue
			}
			return nil, nil, err
		}
		serial = max(serial, rec.Serial)
		if rec.TokenID != token.ID {
			continue
		}
		if key, err := parseKey(rec.Key); err == nil {
			return key, &record{Serial: serial + 1, Node: token.Node, TokenID: token.ID, Key: rec.Key}, nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	rec := &record{Serial: serial + 1, Node: token.Node, TokenID: token.ID, Key: der}
	// Durable before the relay hears of it: a key that was signed and lost would leave the token bound to nothing.
	if err := writeRecord(dir, pending, rec); err != nil {
		return nil, nil, err
	}
	return key, rec, nil
}

// checkAnswer holds the relay to what the gateway asked for.
func checkAnswer(rec *record, token join.Token) (*Identity, error) {
	id, err := rec.identity()
	if err != nil {
		return nil, err
	}
	if id.node != token.Node {
		return nil, fmt.Errorf("the certificate is for node %q, the token is for %q", id.node, token.Node)
	}
	roots := x509.NewCertPool()
	roots.AddCert(token.CA)
	err = verify(rec.Chain, roots, x509.VerifyOptions{CurrentTime: id.NotBefore(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, fmt.Errorf("the certificate is not the token's CA's: %w", err)
	}
	return id, nil
}

// warnOfClock tells of a clock that will make every timestamp of this gateway wrong. Joining works all the same.
func warnOfClock(o EnrollOptions, relay time.Time) {
	off := o.now().Sub(relay).Round(time.Second)
	if relay.IsZero() || off.Abs() < 2*time.Minute {
		return
	}
	side := "ahead of"
	if off < 0 {
		side = "behind"
	}
	o.Log.Warn(fmt.Sprintf("this gateway's clock is %s %s the relay's: timestamps of values and logs will be wrong until it is set (NTP)", off.Abs(), side),
		"clock", o.now().UTC().Format(time.RFC3339), "relay", relay.UTC().Format(time.RFC3339))
}

// pause grows from half a second to ten, with jitter so that a street of gateways that got power back does not knock in step.
func pause(attempt int) time.Duration {
	d := min(500*time.Millisecond<<min(attempt, 5), 10*time.Second)
	return d/2 + mrand.N(d/2)
}
