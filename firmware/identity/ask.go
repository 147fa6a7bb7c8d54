package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/proxy"
	"github.com/skerry/skerry/firmware/wire/join"
)

// attemptTimeout bounds one request, so that an address that swallows packets does not hold up the next one.
const attemptTimeout = 15 * time.Second

// errFinal marks failures that trying the same address again cannot mend.
type errFinal struct{ error }

func (e errFinal) Unwrap() error { return e.error }

// errLater marks an answer that asks to come again later.
type errLater struct {
	error
	after time.Duration
}

func (e *errLater) Unwrap() error { return e.error }

// longestAsked bounds what a relay may ask for: one with a fault must not park its gateways for weeks.
const longestAsked = time.Hour

// later adds to err how long the answer asks to wait.
func later(err error, resp *http.Response) error {
	s, parse := strconv.Atoi(resp.Header.Get("Retry-After"))
	if parse != nil || s <= 0 {
		return err
	}
	return &errLater{err, min(time.Duration(min(s, 1<<20))*time.Second, longestAsked)}
}

// dialFunc opens TCP connections; default a net.Dialer.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// asker sends requests for certificates to relays.
type asker struct {
	addresses []string
	dial      dialFunc // nil: directly
	tls       *tls.Config
	path      string
	now       func() time.Time // the gateway's clock, for messages
	// body makes the request for one connection: a renewal proves the key on the very connection that it is sent on.
	body func(cs *tls.ConnectionState) ([]byte, error)
}

// once asks each relay in turn until one signs or refuses for good. final says that trying again cannot help.
func (a *asker) once(ctx context.Context) (resp *join.Response, final bool, err error) {
	var failures []error
	final = true
	for _, addr := range a.addresses {
		resp, err := a.one(ctx, addr)
		if err == nil {
			return resp, true, nil
		}
		var refusal *join.Refusal
		if errors.As(err, &refusal) && !refusal.Code.Temporary() {
			return nil, true, fmt.Errorf("relay %s refuses: %w", addr, refusal)
		}
		var f errFinal
		final = final && errors.As(err, &f)
		failures = append(failures, fmt.Errorf("relay %s: %w", addr, err))
	}
	return nil, final, oneLine(failures)
}

// ask sends the request to each relay in turn until one signs, one refuses, or ctx ends.
func ask(ctx context.Context, o EnrollOptions, token join.Token, req join.Request) (*join.Response, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(token.CA)
	a := &asker{
		addresses: o.Addresses, dial: o.Dial, path: join.Path, now: o.now,
		tls:  clientTLS(roots, notBefore(o.now, token.CA.NotBefore)),
		body: func(*tls.ConnectionState) ([]byte, error) { return body, nil },
	}
	for attempt := 0; ; attempt++ {
		resp, final, err := a.once(ctx)
		if err == nil || final {
			return resp, err
		}
		wait := max(o.pause(attempt), asked(err))
		if deadline, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Until(deadline) < wait {
			return nil, fmt.Errorf("gave up (tries: %d): %w", attempt+1, err)
		}
		o.Log.Warn("joining: no relay has answered yet, trying again", "in", wait.Round(time.Millisecond), "error", err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("gave up (tries: %d): %w", attempt+1, err)
		case <-time.After(wait):
		}
	}
}

// oneLine joins errors with semicolons: each message of ours is one line for the technician.
func oneLine(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	format := strings.TrimSuffix(strings.Repeat("%w; ", len(errs)), "; ")
	args := make([]any, len(errs))
	for i, e := range errs {
		args[i] = e
	}
	return fmt.Errorf(format, args...)
}

func (a *asker) one(ctx context.Context, addr string) (*join.Response, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, errFinal{fmt.Errorf("the address is not HOST:PORT (%w): correct relay.addresses", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	conn, err := a.connect(ctx, addr)
	if err != nil {
		return nil, explain(err, a.now())
	}
	defer conn.Close()
	cs := conn.ConnectionState()
	body, err := a.body(&cs)
	if err != nil {
		return nil, errFinal{err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+a.path, bytes.NewReader(body))
	if err != nil {
		return nil, errFinal{fmt.Errorf("the address is not one (%w): correct relay.addresses", err)}
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{
		Transport: &http.Transport{
			DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return conn, nil },
			DisableKeepAlives: true, // one connection, one request: net/http has no reason to dial again
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, explain(err, a.now())
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, join.MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if len(answer) > join.MaxBody {
		return nil, errFinal{errNotRelay(resp.Status)}
	}
	if resp.StatusCode == http.StatusOK {
		out := new(join.Response)
		if err := json.Unmarshal(answer, out); err != nil || len(out.Chain) == 0 {
			return nil, errFinal{errNotRelay(resp.Status)}
		}
		return out, nil
	}
	refusal := new(join.Refusal)
	if err := json.Unmarshal(answer, refusal); err != nil || refusal.Code == "" {
		if resp.StatusCode >= 500 { // a load balancer whose relays are away
			return nil, later(fmt.Errorf("answered %s", resp.Status), resp)
		}
		return nil, errFinal{errNotRelay(resp.Status)}
	}
	if refusal.Code.Temporary() {
		return nil, later(refusal, resp)
	}
	return nil, refusal
}

// connect opens a TLS connection to a relay.
func (a *asker) connect(ctx context.Context, addr string) (*tls.Conn, error) {
	dial := a.dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, a.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func errNotRelay(status string) error {
	return fmt.Errorf("answered %s, which no Skerry relay would to a request for a certificate: check that relay.addresses has the relay's own address and port", status)
}

// explain turns a failed request into a cause and a remedy.
func explain(err error, clock time.Time) error {
	var (
		notTLS   tls.RecordHeaderError
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
		wrong    x509.HostnameError
		resolve  *net.DNSError
		op       *net.OpError
		deadline = errors.Is(err, context.DeadlineExceeded)
		way      *proxy.Error
	)
	switch {
	case errors.As(err, &way):
		return way
	case errors.As(err, &notTLS), errors.Is(err, http.ErrSchemeMismatch):
		return errFinal{fmt.Errorf("does not speak TLS, so it is not a Skerry relay: check the port in relay.addresses")}
	case errors.As(err, &unknown):
		return errFinal{errors.New("has a certificate that the token's CA did not sign: the address is another server's, or the token is another installation's; check relay.addresses, or create a token with `skerryctl token create` against this relay's cluster")}
	case errors.As(err, &wrong):
		return errFinal{errors.New("has a certificate that is not a relay's of the token's installation: check that relay.addresses has the relay's own address and port")}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return errFinal{fmt.Errorf("has a certificate that is valid from %s to %s, and this gateway's clock says %s: set the clock, then join again",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339), clock.UTC().Format(time.RFC3339))}
	case errors.As(err, &invalid):
		return errFinal{fmt.Errorf("has a certificate that cannot be accepted: %w", err)}
	case errors.As(err, &resolve):
		return fmt.Errorf("its host name %q does not resolve: check relay.addresses and the gateway's DNS", resolve.Name)
	case deadline:
		return errors.New("does not answer in time: check the address, and that no firewall drops the port")
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("cannot be reached (%w): check the address, that the relay runs, and the gateway's network", op.Err)
	}
	return fmt.Errorf("the connection failed: %w", err)
}
