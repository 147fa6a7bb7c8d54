package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// patience bounds how long a proxy may take to connect. It is cut shorter where the caller's own time ends soon, so that
// the error says that it was the proxy.
const patience = 10 * time.Second

// maxAnswer bounds a proxy's answer, in bytes.
const maxAnswer = 16 << 10

// Dialer opens connections through one proxy.
type Dialer struct {
	address string // HOST:PORT
	user    *url.Userinfo
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// Error says why there is no connection, for a technician: what the proxy did, and what to do. It never holds credentials.
type Error struct {
	Proxy string // HOST:PORT
	text  string
	err   error
}

func (e *Error) Error() string { return "proxy " + e.Proxy + " " + e.text }
func (e *Error) Unwrap() error { return e.err }

// Parse reads a proxy's address: http://HOST:PORT or http://USER:PASSWORD@HOST:PORT. The error says what is allowed, and
// does not repeat the address, which may hold a password.
func Parse(s string) (*Dialer, error) {
	const allowed = "allowed is http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with %-escapes for special letters"
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("is not a URL: " + allowed)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "http":
		return nil, errors.New("has another scheme than http (the connection through it is TLS from end to end all the same): " + allowed)
	case u.Hostname() == "" || err != nil || port == 0:
		return nil, errors.New("lacks a host or a port: " + allowed)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return nil, errors.New("has more than host and port: " + allowed)
	}
	// The link's own heartbeats keep the connection alive, and idle bytes cost money on mobile networks.
	return &Dialer{address: u.Host, user: u.User, dial: (&net.Dialer{KeepAlive: -1}).DialContext}, nil
}

// Address is the proxy's HOST:PORT, without credentials.
func (d *Dialer) Address() string { return d.address }

// DialContext connects to address (HOST:PORT) through the proxy. network must be a TCP one. Errors are *Error.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limitOf(ctx))
	defer cancel()
	conn, err := d.dial(ctx, network, d.address)
	if err != nil {
		return nil, d.fail(innermost(err), "cannot be reached (%v): check relay.proxy and the gateway's network", innermost(err))
	}
	// A context that ends unblocks reads and writes.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = d.connect(conn, address)
	if !stop() && err == nil { // the deadline may have hit after the last byte
		err = d.fail(ctx.Err(), "took too long")
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// limitOf leaves the caller a third of its time, so that it hears of the proxy before it gives up itself.
func limitOf(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(patience, time.Until(deadline)*2/3)
	}
	return patience
}

func (d *Dialer) connect(conn net.Conn, address string) error {
	req := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	if d.user != nil {
		password, _ := d.user.Password()
		req += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(d.user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, req+"\r\n"); err != nil {
		return d.broken(err)
	}
	r := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	//nolint:bodyclose // an answer to CONNECT with 2xx has no body, and after any other the connection is closed
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return d.broken(err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return d.refused(resp.StatusCode, address)
	}
	if r.Buffered() > 0 { // in TLS the client speaks first
		return d.fail(nil, "sends bytes before the relay could: it is not an HTTP proxy; check relay.proxy")
	}
	return nil
}

func (d *Dialer) refused(status int, address string) error {
	switch {
	case status == http.StatusProxyAuthRequired && d.user == nil:
		return d.fail(nil, "asks for a user and a password (HTTP 407): set relay.proxy to http://USER:PASSWORD@%s", d.address)
	case status == http.StatusProxyAuthRequired:
		return d.fail(nil, "does not accept the user and password in relay.proxy (HTTP 407): correct them; only Basic authentication is supported")
	case status == http.StatusForbidden || status == http.StatusMethodNotAllowed:
		return d.fail(nil, "does not let this gateway through to %s (HTTP %d): have CONNECT to this address and port allowed", address, status)
	case status >= 500:
		return d.fail(nil, "cannot reach %s (HTTP %d): the relay does not run, or the proxy's network or DNS does not know it", address, status)
	}
	return d.fail(nil, "answers CONNECT to %s with HTTP %d: is it an HTTP proxy? check relay.proxy", address, status)
}

func (d *Dialer) broken(err error) error {
	var n net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &n) && n.Timeout():
		return d.fail(err, "takes the connection and does not answer: it is not an HTTP proxy, it is overloaded, or it cannot reach the relay")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return d.fail(err, "closes the connection, or does not answer as an HTTP proxy does: check relay.proxy")
	}
	return d.fail(err, "does not answer as an HTTP proxy does: check relay.proxy") // what it says may be long, and anything
}

func (d *Dialer) fail(cause error, format string, args ...any) *Error {
	return &Error{Proxy: d.address, text: fmt.Sprintf(format, args...), err: cause}
}

// innermost strips wrappers that name local ports, which change from attempt to attempt.
func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
