package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
)

// RenewOptions configures a Renewer. Addresses and Dir are required.
type RenewOptions struct {
	Addresses []string // relays, HOST:PORT, tried in turn
	Dir       string   // where the identity is kept
	// Dial opens the TCP connection that TLS then runs over, a proxy's for one; default a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Failing is told, at most once a day, that renewal has failed for long: for a day or a twelfth of the certificate's life,
	// whichever is shorter, or that the certificate has expired meanwhile. May be nil; must not block.
	Failing func(message string)
	Log     *slog.Logger

	now   func() time.Time // the gateway's clock; tests set it
	pause func(attempt int, longest time.Duration) time.Duration
	save  func(*record) error
}

// Renewer keeps the identity in a folder from running out. All methods are safe for concurrent use; Run may be called
// again after it has returned.
type Renewer struct {
	opts RenewOptions
	wake chan struct{} // holds a value when what is known of the time has changed

	mu      sync.Mutex
	relay   time.Time // the relay's clock, when it was heard last
	heardAt time.Time // the gateway's clock then, with its monotonic part
	dials   int       // since then, for Clock
	refused bool      // a relay says that the certificate has expired
	told    time.Time // when Failing was called last
	unsaved *renewal  // what a relay signed and the disk did not take
	st      RenewStatus
}

// renewal is a signed answer that is not durable yet.
type renewal struct {
	rec *record
	id  *Identity
}

// RenewStatus is a snapshot for people and metrics. Times of the certificate are by the relay's clock.
type RenewStatus struct {
	NotAfter     time.Time `json:"notAfter,omitzero"` // zero: not joined
	Issuer       string    `json:"issuer,omitempty"`  // name of the CA that signed the certificate
	RenewAt      time.Time `json:"renewAt,omitzero"`
	Renewed      uint64    `json:"renewed"`               // since the process started
	LastError    string    `json:"lastError,omitempty"`   // why the last attempt failed; empty after one that did not
	Unsaved      bool      `json:"unsaved,omitempty"`     // a new certificate is there, and the disk does not take it
	FailingSince time.Time `json:"failingSince,omitzero"` // by the gateway's clock
}

// NewRenewer returns a Renewer that does nothing until it is run.
func NewRenewer(o RenewOptions) *Renewer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.pause == nil {
		o.pause = renewPause
	}
	if o.Failing == nil {
		o.Failing = func(string) {}
	}
	if o.save == nil {
		o.save = func(r *record) error { return writeRecord(o.Dir, current, r) }
	}
	return &Renewer{opts: o, wake: make(chan struct{}, 1)}
}

const (
	// lookAgain is how often the gateway's clock is looked at, which may be set at any time, and the folder, which a join may fill.
	lookAgain = time.Minute
	// The pauses between attempts grow up to a twentieth of the certificate's life, within these.
	shortestPause = 2 * time.Second
	longestPause  = 30 * time.Minute
	// expiredPause is the longest once there is no link any more without a new certificate.
	expiredPause = time.Minute
	tellAgain    = 24 * time.Hour
)

// Heard tells the relay's clock, as an authenticated relay said it. From then on certificates are judged by it, and by the
// time that has passed since, rather than by the gateway's clock: the relay's is the one that will judge them.
func (r *Renewer) Heard(relay time.Time) {
	r.mu.Lock()
	r.relay, r.heardAt, r.dials = relay, r.opts.now(), 0
	r.mu.Unlock()
	r.poke()
}

// Refused tells that a relay refused the certificate as expired: then it is time to renew, whatever the clocks say.
func (r *Renewer) Refused() {
	r.mu.Lock()
	r.refused = true
	r.mu.Unlock()
	r.poke()
}

func (r *Renewer) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Status returns a snapshot.
func (r *Renewer) Status() RenewStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st
}

// Run renews the identity whenever it is time to, until ctx ends. A gateway that has not joined is waited for.
func (r *Renewer) Run(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; {
		id, err := Load(r.opts.Dir)
		if err != nil { // whoever starts the agent and the link say so, and what to do
			r.sleep(ctx, lookAgain, true)
			continue
		}
		wait := r.look(id)
		if wait > 0 {
			attempt = 0
			r.sleep(ctx, min(wait, lookAgain), true)
			continue
		}
		next, err := r.renew(ctx, id)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			attempt = 0
			r.renewed(next)
		} else {
			r.failed(id, err)
		}
		// After a success, too: a relay whose certificates are over as soon as they are signed must not be asked in a circle.
		r.sleep(ctx, max(r.opts.pause(attempt, r.longest(id)), asked(err)), false)
		attempt++
	}
	return ctx.Err()
}

// asked is how long a relay asked to wait, with jitter on top: it told all the others the same.
func asked(err error) time.Duration {
	var later *errLater
	if !errors.As(err, &later) {
		return 0
	}
	return later.after + mrand.N(later.after/4+1)
}

func (r *Renewer) sleep(ctx context.Context, d time.Duration, wakeable bool) {
	wake := r.wake
	if !wakeable {
		wake = nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}

// look notes what the identity is, and returns how long there is until it should be renewed.
func (r *Renewer) look(id *Identity) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.NotAfter, r.st.RenewAt, r.st.Issuer = id.NotAfter(), id.RenewAt(), id.Issuer()
	if r.refused {
		return 0
	}
	return id.RenewAt().Sub(r.time(id))
}

// Clock returns the clock by which the certificate of the next relay is to be judged: the relay's own as it was heard, so that a link that has been up
// comes up again after the gateway's clock was set wrong. If that did not lead to a relay, the next one is judged by the gateway's: a machine that was
// suspended has missed time. Either is never earlier than the gateway's own certificate.
func (r *Renewer) Clock(id *Identity) func() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dials++
	if r.dials%2 == 0 {
		return notBefore(r.opts.now, id.NotBefore())
	}
	return notBefore(func() time.Time {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.time(id)
	}, id.NotBefore())
}

// time is the best that is known of the relay's clock. r.mu is held.
func (r *Renewer) time(id *Identity) time.Time {
	now := r.opts.now()
	if !r.relay.IsZero() {
		return r.relay.Add(now.Sub(r.heardAt)) // by the monotonic clock: steps of the gateway's do not count
	}
	if now.Before(id.issued) {
		return id.issued
	}
	return now
}

func (r *Renewer) longest(id *Identity) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	longest := longestPause
	if r.refused || r.time(id).After(id.NotAfter()) {
		longest = expiredPause
	}
	return max(shortestPause, min(longest, id.NotAfter().Sub(id.issued)/20))
}

// renewPause doubles from two seconds to the longest, with jitter.
func renewPause(attempt int, longest time.Duration) time.Duration {
	d := min(shortestPause<<min(attempt, 16), longest)
	return d/2 + mrand.N(d/2)
}

func (r *Renewer) renewed(id *Identity) {
	r.mu.Lock()
	r.refused = false
	r.st.Renewed++
	r.st.LastError, r.st.FailingSince, r.st.Unsaved = "", time.Time{}, false
	r.st.NotAfter, r.st.RenewAt, r.st.Issuer = id.NotAfter(), id.RenewAt(), id.Issuer()
	r.mu.Unlock()
	r.opts.Log.Info("the certificate was renewed; the next connection uses it", "node", id.Node(), "validUntil", id.NotAfter().UTC().Format(time.RFC3339))
}

func (r *Renewer) failed(id *Identity, err error) {
	now := r.opts.now()
	r.mu.Lock()
	r.st.LastError, r.st.Unsaved = err.Error(), r.unsaved != nil
	if r.st.FailingSince.IsZero() {
		r.st.FailingSince = now
	}
	expired := r.refused || r.time(id).After(id.NotAfter())
	patience := min(24*time.Hour, id.NotAfter().Sub(id.issued)/12)
	tell := (expired || now.Sub(r.st.FailingSince) >= patience) && (r.told.IsZero() || now.Sub(r.told) >= tellAgain)
	if tell {
		r.told = now
	}
	r.mu.Unlock()
	state := "is valid until " + id.NotAfter().UTC().Format(time.RFC3339)
	if expired {
		state = "has expired at " + id.NotAfter().UTC().Format(time.RFC3339)
	}
	r.opts.Log.Warn("the certificate could not be renewed, trying again", "node", id.Node(), "certificate", state, "error", err)
	if tell {
		r.opts.Failing(fmt.Sprintf("the certificate of node %q %s and cannot be renewed: %v", id.Node(), state, err))
	}
}

// renew asks for a successor of id's certificate, and makes it durable in id's place. Until then id stays as good as it
// was: it is for the same key, so that a power cut at any moment costs a repetition.
//
// If only saving failed, the next attempt saves what is there: relays are not asked again and again for a full disk.
func (r *Renewer) renew(ctx context.Context, id *Identity) (*Identity, error) {
	r.mu.Lock()
	again := r.unsaved
	if again != nil && (again.rec.Serial != id.serial+1 || again.rec.TokenID != id.tokenID || !again.id.RenewAt().After(r.time(again.id))) {
		again = nil // joined anew meanwhile, or it is time for another one
	}
	r.unsaved = again
	r.mu.Unlock()
	if again == nil {
		var err error
		if again, err = r.ask(ctx, id); err != nil {
			return nil, err
		}
	}
	err := r.opts.save(again.rec)
	r.mu.Lock()
	r.unsaved = again
	if err == nil {
		r.unsaved = nil
	}
	r.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("save the renewed identity in %s: %w: free the disk or mend its permissions", r.opts.Dir, err)
	}
	return again.id, nil
}

// ask gets the successor of id's certificate from a relay.
func (r *Renewer) ask(ctx context.Context, id *Identity) (*renewal, error) {
	if len(r.opts.Addresses) == 0 {
		return nil, errors.New("no relay address is configured: set relay.addresses to HOST:PORT of the relay")
	}
	key, ok := id.chain.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key of the identity is a %T", id.chain.PrivateKey)
	}
	var peer []*x509.Certificate
	// No client certificate: the handshake would refuse one that has expired.
	config := clientTLS(id.roots, r.Clock(id))
	a := &asker{
		addresses: r.opts.Addresses, dial: r.opts.Dial, path: join.RenewPath, now: r.opts.now, tls: config,
		body: func(cs *tls.ConnectionState) ([]byte, error) {
			peer = cs.PeerCertificates
			req, err := join.NewRenewal(cs, id.chain.Leaf.Raw, key)
			if err != nil {
				return nil, err
			}
			return json.Marshal(req)
		},
	}
	resp, _, err := a.once(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := successor(r.opts.Dir, id)
	if err != nil {
		return nil, err
	}
	rec.Chain, rec.Roots, rec.Issued = resp.Chain, resp.Roots, resp.Time
	next, err := checkRenewed(rec, id, peer, config.Time())
	if err != nil {
		return nil, fmt.Errorf("the relay's answer cannot be used, the old certificate stays: %w", err)
	}
	if !resp.Time.IsZero() {
		r.Heard(resp.Time)
	}
	return &renewal{rec, next}, nil
}

// successor returns the record that follows id's, unless somebody has joined this gateway anew meanwhile.
func successor(dir string, id *Identity) (*record, error) {
	rec, _, err := readRecord(dir, current)
	if err != nil {
		return nil, fmt.Errorf("read the identity again: %w", err)
	}
	if rec.Serial != id.serial {
		return nil, errors.New("this gateway was joined anew while its certificate was renewed: the new identity stays")
	}
	return &record{Serial: rec.Serial + 1, Node: rec.Node, TokenID: rec.TokenID, Key: rec.Key}, nil
}

// checkRenewed holds the relay to what the gateway asked for, and looks ahead: with roots that do not vouch for the very
// relay that named them, the gateway could never come back.
func checkRenewed(rec *record, old *Identity, peer []*x509.Certificate, now time.Time) (*Identity, error) {
	id, err := rec.identity() // the key is the old one's
	if err != nil {
		return nil, err
	}
	if id.node != old.node {
		return nil, fmt.Errorf("the certificate is for node %q, this gateway is %q", id.node, old.node)
	}
	if err := verify(rec.Chain, id.roots, x509.VerifyOptions{CurrentTime: id.NotBefore(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return nil, fmt.Errorf("the certificate is not of the CAs that came with it: %w", err)
	}
	var relay [][]byte
	for _, c := range peer {
		relay = append(relay, c.Raw)
	}
	if err := verify(relay, id.roots, x509.VerifyOptions{CurrentTime: now, DNSName: join.ServerName}); err != nil {
		return nil, fmt.Errorf("the relay's own certificate is not of the CAs that it names: add its CA to ca.crt in Secret skerry-system/skerry-ca: %w", err)
	}
	return id, nil
}

// verify checks a chain, the leaf first, against roots.
func verify(chain [][]byte, roots *x509.CertPool, o x509.VerifyOptions) error {
	if len(chain) == 0 {
		return errors.New("there is no certificate")
	}
	o.Roots, o.Intermediates = roots, x509.NewCertPool()
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return err
	}
	for _, der := range chain[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		o.Intermediates.AddCert(c)
	}
	_, err = leaf.Verify(o)
	return err
}
