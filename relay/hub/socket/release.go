package socket

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"reflect"
	"unsafe"
)

// keptInput is how large crypto/tls's input buffer may stay while a connection is idle, bytes. It reads 5 and 512 at least.
const keptInput = 1 << 10

// Release lets go of what crypto/tls keeps of a handshake, 8 KB of 20 that an agent costs: the certificates, which the owner has
// looked at before, and the buffers through which they came. ConnectionState shows no certificates any more. It is to be called
// before the first Wait or Read.
//
// crypto/tls has no call for this, so it is done by reflection: fields that a later release of Go calls otherwise, or gives
// another type, stay as they are, and cost the memory; a test says so then. The buffers are only used by the goroutine that
// reads, and only dropped when they are empty.
func (c *Conn) Release() {
	t, ok := c.nc.(*tls.Conn)
	if !ok || !t.ConnectionState().HandshakeComplete {
		return
	}
	if certs := field[[]*x509.Certificate](t, "peerCertificates"); certs != nil {
		*certs = nil
	}
	if chains := field[[][]*x509.Certificate](t, "verifiedChains"); chains != nil {
		*chains = nil
	}
	if hand := field[bytes.Buffer](t, "hand"); hand != nil && hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
	if c.raw = field[bytes.Buffer](t, "rawInput"); c.raw != nil && c.raw.Len() == 0 {
		*c.raw = bytes.Buffer{}
	}
}

// field returns a pointer to a field of t, nil if there is none of that name and type.
func field[T any](t *tls.Conn, name string) *T {
	v := reflect.ValueOf(t).Elem().FieldByName(name)
	if !v.IsValid() || v.Type() != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(unsafe.Pointer(v.UnsafeAddr())) //nolint:gosec // see Release
}
