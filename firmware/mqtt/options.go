package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"
)

// The kinds of listeners.
const (
	KindTCP  = "tcp"
	KindTLS  = "tls"
	KindWS   = "websocket"
	KindWSS  = "websocketTLS"
	KindUnix = "socket"
)

// Listener is where clients come in.
type Listener struct {
	Kind    string
	Address string      // HOST:PORT, or the path of a Unix socket
	Mode    os.FileMode // of the socket
}

// Limits of what clients may take.
type Limits struct {
	Payload              int // bytes of a message
	Connections          int
	ConnectionsPerSource int
	Sessions             int // with and without a connection
	SessionsPerIdentity  int
	SessionExpiry        time.Duration // of a session without a connection
	MessagesPerSecond    int           // packets of one client; it is read no faster
	Inflight             int           // QoS 1 and 2 messages that a client has not acknowledged
	Queue                int           // messages that wait for one client
	QueueBytes           int           // their bytes
	Subscriptions        int           // of one client
	Retained             int           // bytes of retained messages, of all
	Kept                 int           // bytes of sessions and retained messages on the flash
	FlashRate            int           // bytes per second that are written for them
	KeepAlive            time.Duration // at most
}

// DefaultLimits are those of a gateway with little memory.
func DefaultLimits() Limits {
	return Limits{
		Payload: 64 << 10, Connections: 100, ConnectionsPerSource: 50, Sessions: 200, SessionsPerIdentity: 10, SessionExpiry: 24 * time.Hour,
		MessagesPerSecond: 100, Inflight: 64, Queue: 200, QueueBytes: 512 << 10, Subscriptions: 50, Retained: 1 << 20, Kept: 4 << 20, FlashRate: 8 << 10, KeepAlive: 5 * time.Minute,
	}
}

// Record is one record of Records. A nil Body deletes the key.
type Record struct {
	Key  string
	Body []byte
}

// Records keep sessions and retained messages over restarts.
type Records interface {
	Scan(fn func(key string, body []byte) error) error
	// CommitLazy is atomic, and durable within the store's window.
	CommitLazy(records []Record) error
}

// Options are what a Broker needs. All interfaces are required.
type Options struct {
	Node       string
	Listeners  []Listener
	TLS        TLS
	Passwords  string // path of the file; empty: nobody has one
	Anonymous  string // the identity of local callers without a user name; empty: they are refused
	Identities []Identity
	Limits     Limits
	Devices    Devices
	Members    Members
	Driver     *Driver
	Records    Records
	Log        *slog.Logger
}

// TLS are the files of the TLS listeners.
type TLS struct{ Cert, Key, ClientCA string }

// config reads the files, so that a renewed certificate is used when the listener is opened again.
func (t TLS) config() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("mqtt.tls: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if t.ClientCA != "" {
		pem, err := os.ReadFile(t.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("mqtt.tls.clientCAFile: %w", err)
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mqtt.tls.clientCAFile: %s holds no certificate in PEM", t.ClientCA)
		}
	}
	return c, nil
}

var errKind = errors.New("unknown kind of listener")

// open opens a listener; TLS comes on top of it.
func (l Listener) open(ctx context.Context) (net.Listener, error) {
	switch l.Kind {
	case KindUnix:
		return openSocket(ctx, l.Address, l.Mode)
	case KindTCP, KindTLS, KindWS, KindWSS:
		return new(net.ListenConfig).Listen(ctx, "tcp", l.Address)
	default:
		return nil, errKind
	}
}
