package opcua

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/server/attrs"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
)

// peer is gopcua's server behind a proxy that can fail. One server serves all tests: it takes a second to start, and leaks
// goroutines when it ends.
type peer struct {
	ns  *server.NodeNameSpace
	srv *server.Server

	listener net.Listener
	backend  string
	mode     atomic.Int32
	mu       sync.Mutex
	conns    map[net.Conn]bool
	down     bool
	wg       sync.WaitGroup
	accepted atomic.Int32
	refused  atomic.Int32 // attempts to go on with a session, with noResume
	deletes  atomic.Int32 // requests to delete subscriptions
}

// The modes of a proxy.
const (
	pass int32 = iota
	silent
	flooding
	noResume // nothing gets through any more once somebody wants to go on with a session
	brief    // connections end with the first request after those that open them
)

// Type ids of requests (Part 6, annex A.3).
const (
	createSession       = 461
	readNodes           = 631
	activateSession     = 467
	deleteSubscriptions = 847
)

// requestOf is the type id of the request that p begins with; 0: of another message, or in another encoding. Without security each request is in a chunk
// of its own, and the client waits for the answers to those that matter here.
func requestOf(p []byte) int {
	if len(p) < 28 || string(p[:4]) != "MSGF" || p[24] != 1 || p[25] != 0 {
		return 0
	}
	return int(p[26]) | int(p[27])<<8
}

var shared struct {
	once sync.Once
	srv  *server.Server
	ns   *server.NodeNameSpace
	addr string
	err  error
}

const testNamespace = "urn:skerry:test"

// startShared starts gopcua's server at a free port.
func startShared() {
	log.SetOutput(io.Discard) // the server logs what it does
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		shared.err = err
		return
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	shared.addr = fmt.Sprintf("127.0.0.1:%d", port)
	shared.srv = server.New(server.EndPoint("127.0.0.1", port), server.EnableSecurity("None", ua.MessageSecurityModeNone), server.EnableAuthMode(ua.UserTokenTypeAnonymous))
	shared.ns = server.NewNodeNameSpace(shared.srv, testNamespace)
	addNodes(shared.ns)
	shared.err = shared.srv.Start(context.Background())
}

// variable adds a writable node.
func variable(ns *server.NodeNameSpace, name string, dataType uint32, rank int32, value any) {
	node := ua.NewStringNodeID(ns.ID(), name)
	n := server.NewNode(node, server.Attributes{
		ua.AttributeIDNodeClass: server.DataValueFromValue(uint32(ua.NodeClassVariable)), ua.AttributeIDBrowseName: server.DataValueFromValue(attrs.BrowseName(name)),
		ua.AttributeIDDisplayName: server.DataValueFromValue(attrs.DisplayName(name, name)), ua.AttributeIDDataType: server.DataValueFromValue(ua.NewNumericNodeID(0, dataType)),
		ua.AttributeIDValueRank: server.DataValueFromValue(rank), ua.AttributeIDAccessLevel: server.DataValueFromValue(byte(3)), ua.AttributeIDUserAccessLevel: server.DataValueFromValue(byte(3)),
	}, nil, nil)
	_ = n.SetAttribute(ua.AttributeIDValue, server.DataValueFromValue(value))
	ns.AddNode(n)
}

func addNodes(ns *server.NodeNameSpace) {
	variable(ns, "temperature", id.Float, -1, float32(21.5))
	variable(ns, "running", id.Boolean, -1, true)
	variable(ns, "setpoint", id.Int32, -1, int32(0))
	variable(ns, "small", id.SByte, -1, int8(1))
	variable(ns, "any", id.BaseDataType, -2, uint16(1))
	variable(ns, "text", id.String, -1, "start")
	variable(ns, "list", id.Int16, 1, []int16{1, 2, 3})
	variable(ns, "time", id.DateTime, -1, time.Unix(1000, 0).UTC())
	for i := range 100 {
		variable(ns, fmt.Sprintf("n%d", i), id.Double, -1, float64(i))
	}
}

func startPeer(t *testing.T) *peer {
	t.Helper()
	shared.once.Do(startShared)
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	p := &peer{ns: shared.ns, srv: shared.srv, backend: shared.addr, conns: make(map[net.Conn]bool)}
	var err error
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = p.listener.Close()
		p.kill()
		p.wg.Wait()
	})
	return p
}

func (p *peer) url() string { return "opc.tcp://" + p.listener.Addr().String() }

func (p *peer) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		p.wg.Go(func() { p.serve(c) })
	}
}

// serve connects a client with the server, and lets through what the mode lets through.
func (p *peer) serve(c net.Conn) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		_ = c.Close()
		return
	}
	b, err := net.Dial("tcp", p.backend)
	if err != nil {
		_ = c.Close()
		return
	}
	p.mu.Lock()
	p.conns[c], p.conns[b] = true, true
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(b, c, false) })
	wg.Go(func() { p.copy(c, b, true) })
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, b)
	p.mu.Unlock()
}

func (p *peer) copy(to, from net.Conn, answers bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 64<<10)
	created, deaf, read := false, false, 0
	for {
		if answers && p.mode.Load() == flooding {
			chunk := make([]byte, 8192)
			copy(chunk, "MSGF\x00\x20\x00\x00")
			if _, err := to.Write(chunk); err != nil {
				return
			}
			continue
		}
		_ = from.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if !answers {
			switch requestOf(buf[:n]) {
			case createSession:
				created = true
			case activateSession:
				if p.mode.Load() == noResume && !created {
					p.refused.Add(1)
					deaf = true
				}
			case readNodes:
				if read++; read > 1 && p.mode.Load() == brief {
					return
				}
			case deleteSubscriptions:
				p.deletes.Add(1)
			}
		}
		if deaf || p.mode.Load() == silent {
			n = 0
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// kill drops all connections and refuses new ones.
func (p *peer) kill() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.drop()
}

// drop drops all connections.
func (p *peer) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *peer) revive() {
	p.mode.Store(pass)
	p.kill()
	p.mu.Lock()
	p.down = false
	p.mu.Unlock()
}

// config is how the driver reaches the peer.
func (p *peer) config(kv ...any) device.Config {
	m := map[string]any{"url": p.url(), "timeout": 1000, "watchdog": 500}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return device.Config{Device: "ns/dev", Protocol: m}
}

// node is a property at a node of the test's namespace.
func node(name string, t device.Type, kv ...any) device.PointConfig {
	m := map[string]any{"nodeID": "nsu=" + testNamespace + ";s=" + name}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return device.PointConfig{Property: name, Path: "spec.properties[" + name + "].visitors.configData", Type: t, Writable: true, Visitor: m}
}
