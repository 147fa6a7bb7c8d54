package dmi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/skerry/skerry/firmware/grpcwire"
	"github.com/skerry/skerry/mappers/dmi"
)

const mapperService = "/v1beta1.DeviceMapperService/"

// mapper makes the calls to one mapper (dmi.Mapper). It holds one connection, made when it is first needed.
type mapper struct {
	socket    string
	owner     uint32 // who must listen there
	limit     int    // bytes of an answer
	transport *http.Transport
	lost      chan struct{}
}

// newMapper returns the calls to the mapper on a socket. The process there must be of the user who registered it, or root: the agent must not be made to
// speak to somebody else's socket.
func newMapper(socket string, owner uint32, limit int) *mapper {
	m := &mapper{socket: socket, owner: owner, limit: limit, lost: make(chan struct{}, 1)}
	m.transport = grpcwire.NewTransport(m.dial)
	return m
}

func (m *mapper) dial(ctx context.Context) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", m.socket)
	if err != nil {
		return nil, err
	}
	if p := peerOf(c); !m.trusts(p) {
		_ = c.Close()
		return nil, fmt.Errorf("the process that listens on %s runs as user %d, and the mapper registered as user %d", m.socket, p.uid, m.owner)
	}
	return &watchedConn{Conn: c, lost: m.lost}, nil
}

// trusts tells whether a process may serve the mapper's socket: one of the user who registered it, or root's.
func (m *mapper) trusts(p peer) bool { return p.known && (p.uid == m.owner || p.uid == 0) }

// watchedConn tells when the other side has gone.
type watchedConn struct {
	net.Conn
	once sync.Once
	lost chan<- struct{}
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.once.Do(func() {
			select {
			case c.lost <- struct{}{}:
			default:
			}
		})
	}
	return n, err
}

func (m *mapper) close() { m.transport.CloseIdleConnections() }

// call makes one call. Its error wraps dmi.ErrNoAnswer unless the mapper itself refuses.
func (m *mapper) call(ctx context.Context, method string, req, resp grpcwire.Message) error {
	silent := func(err error) error {
		if cause := ctx.Err(); cause != nil {
			return fmt.Errorf("%w within the time limit: %w", dmi.ErrNoAnswer, cause)
		}
		return fmt.Errorf("%w: %w", dmi.ErrNoAnswer, err)
	}
	r, err := grpcwire.NewRequest(ctx, mapperService+method, "skerryd-dmi", bytes.NewReader(grpcwire.Frame(req)))
	if err != nil {
		return silent(err)
	}
	a, err := m.transport.RoundTrip(r)
	if err != nil {
		return silent(err)
	}
	defer a.Body.Close() //nolint:errcheck // nothing was written through it
	if err := grpcwire.CheckHeader(a); err != nil {
		return silent(err)
	}
	data, err := grpcwire.ReadFrame(a.Body, nil, m.limit)
	none := errors.Is(err, io.EOF)
	if err != nil && !none {
		return silent(err)
	}
	if !none {
		if _, err := a.Body.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // the trailers come after it
			return silent(cmp.Or(err, grpcwire.ErrMore))
		}
	}
	code, message, err := grpcwire.Status(a)
	switch {
	case err != nil:
		return silent(err)
	case code == grpcwire.Unavailable || code == grpcwire.DeadlineExceeded || code == grpcwire.Canceled:
		return silent(&grpcwire.StatusError{Code: code, Message: message})
	case code != 0:
		return &grpcwire.StatusError{Code: code, Message: clip(message)}
	case none:
		return silent(grpcwire.ErrNoMessage)
	}
	if err := grpcwire.Unmarshal(data, resp); err != nil {
		return silent(err)
	}
	return nil
}

func (m *mapper) Put(ctx context.Context, d dmi.Device, known bool) error {
	msg := deviceMessageOf(d)
	method := "RegisterDevice"
	if known {
		method = "UpdateDevice"
	}
	return m.call(ctx, method, &deviceRequest{&msg}, &empty{})
}

func (m *mapper) Remove(ctx context.Context, namespace, name string) error {
	return m.call(ctx, "RemoveDevice", &objectRequest{name, namespace}, &empty{})
}

func (m *mapper) PutModel(ctx context.Context, model dmi.Model, known bool) error {
	msg := modelMessageOf(model)
	method := "CreateDeviceModel"
	if known {
		method = "UpdateDeviceModel"
	}
	return m.call(ctx, method, &modelRequest{&msg}, &empty{})
}

func (m *mapper) RemoveModel(ctx context.Context, namespace, name string) error {
	return m.call(ctx, "RemoveDeviceModel", &objectRequest{name, namespace}, &empty{})
}

func (m *mapper) Has(ctx context.Context, d dmi.Device) (bool, error) {
	var resp deviceRequest
	if err := m.call(ctx, "GetDevice", &objectRequest{d.Name, d.Namespace}, &resp); err != nil {
		return false, err
	}
	if resp.Device == nil {
		return false, fmt.Errorf("it does not know %s/%s", d.Namespace, d.Name)
	}
	own := deviceMessageOf(d)
	return bytes.Equal(normal(resp.Device), normal(&own)), nil
}

// normal encodes a device so that equal ones are equal bytes.
func normal(d *deviceMessage) []byte {
	if d.Spec != nil {
		d.Spec.Protocol.sort()
		for i := range d.Spec.Properties {
			p := &d.Spec.Properties[i]
			p.Visitors.sort()
			if p.Desired != nil {
				p.Desired = &twinProperty{Value: p.Desired.Value}
			}
		}
	}
	return grpcwire.Marshal(d)
}

func (c *protocolConfig) sort() {
	if c != nil && c.Data != nil {
		slices.SortStableFunc(c.Data.Data, func(a, b anyEntry) int { return cmp.Compare(a.Key, b.Key) })
	}
}

const maxSocketPath = 107 // sun_path of unix(7), less the closing zero

// socketOf reads the address that a mapper gives: the path of its socket, with or without a scheme.
func socketOf(address []byte) (string, error) {
	path := strings.TrimPrefix(string(address), "unix://")
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || len(path) > maxSocketPath || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("%w: mapper.address: %q: the absolute path of the Unix socket that the mapper serves is needed, at most %d bytes", dmi.ErrInvalid, clip(string(address)), maxSocketPath)
	}
	return path, nil
}

func clip(s string) string {
	if len(s) > 500 {
		return strings.ToValidUTF8(s[:500], "") + "…"
	}
	return s
}
