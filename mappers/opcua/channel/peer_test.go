package channel

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// identity is a certificate with its key.
type identity struct {
	der []byte
	key *rsa.PrivateKey
}

func newIdentity(t testing.TB, bits int) identity {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return identity{der, key}
}

// server is the other end of one channel, just enough of it. misbehave, if set, gets each request and may answer in its place.
type server struct {
	conn      net.Conn
	own       identity
	client    []byte
	mode      ua.MessageSecurityMode
	policy    string
	asym      *uapolicy.EncryptionAlgorithm
	algo      *uapolicy.EncryptionAlgorithm
	token     uint32
	sequence  uint32
	chunkSize int
	openings  int
	misbehave func(s *server, request uint32, body []byte) bool
}

const serverChannel = 77

// start serves one connection after the other until the test ends.
func start(t *testing.T, own identity, sec Security, misbehave func(s *server, request uint32, body []byte) bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				s := &server{conn: conn, own: own, client: sec.Certificate, mode: sec.Mode, policy: sec.Policy, chunkSize: 8192, misbehave: misbehave}
				s.run()
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

func (s *server) run() {
	buf := make([]byte, bufferSize)
	f, err := readFrame(s.conn, buf)
	if err != nil || f.kind != "HEL" {
		return
	}
	ack := appendHeader(nil, "ACK", 'F')
	for _, n := range []uint32{0, bufferSize, bufferSize, 0, 0} {
		ack = binary.LittleEndian.AppendUint32(ack, n)
	}
	putSize(ack, len(ack))
	_, _ = s.conn.Write(ack)
	var message []byte
	for {
		f, err := readFrame(s.conn, buf)
		if err != nil || f.kind == "CLO" {
			return
		}
		plain, err := s.unwrap(f)
		if err != nil {
			return
		}
		message = append(message, plain[sequenceSize:]...)
		if f.chunk != 'F' {
			continue
		}
		request := binary.LittleEndian.Uint32(plain[4:])
		body := message
		message = nil
		if f.kind == "OPN" {
			s.opened(request, body)
			continue
		}
		if s.misbehave == nil || !s.misbehave(s, request, body) {
			s.answer(request, body)
		}
	}
}

func (s *server) unwrap(f frame) ([]byte, error) {
	secured := s.mode != ua.MessageSecurityModeNone
	if f.kind == "OPN" {
		r := uabin.NewReader(f.b[headerSize:])
		r.Uint32()
		_, _, _ = r.String(), r.Bytes(), r.Bytes()
		sec := Security{Policy: s.policy, Mode: s.mode, Certificate: s.own.der, Key: s.own.key, Remote: s.client}
		var err error
		if s.asym, err = sec.asymmetric(); err != nil {
			return nil, err
		}
		size := 0
		if secured {
			size = s.own.key.Size()
		}
		return open(s.asym, f.b, len(f.b)-r.Len(), size, secured, secured)
	}
	return open(s.algo, f.b, symmetricEnd, 0, secured, s.mode == ua.MessageSecurityModeSignAndEncrypt)
}

// opened answers an opening with keys of its own.
func (s *server) opened(request uint32, body []byte) {
	_, m, err := ua.DecodeService(body)
	if err != nil {
		return
	}
	req := m.(*ua.OpenSecureChannelRequest)
	nonce := make([]byte, len(req.ClientNonce))
	_, _ = rand.Read(nonce)
	s.openings++
	s.token++
	res := encodeResponse(id.OpenSecureChannelResponse_Encoding_DefaultBinary, &ua.OpenSecureChannelResponse{
		ResponseHeader: responseHeader(), ServerNonce: nonce, SecurityToken: &ua.ChannelSecurityToken{ChannelID: serverChannel, TokenID: s.token, RevisedLifetime: req.RequestedLifetime},
	})
	secured := s.mode != ua.MessageSecurityModeNone
	b := appendText(binary.LittleEndian.AppendUint32(appendHeader(nil, "OPN", 'F'), serverChannel), s.policy)
	if secured {
		b = appendBytes(appendBytes(b, s.own.der), thumbprint(s.client))
	} else {
		b = appendBytes(appendBytes(b, nil), nil)
	}
	head := len(b)
	s.sequence++
	b = binary.LittleEndian.AppendUint32(b, s.sequence)
	b = append(binary.LittleEndian.AppendUint32(b, request), res...)
	if b, err = protect(s.asym, b, head, secured, secured); err == nil {
		_, _ = s.conn.Write(b)
	}
	s.algo, _ = uapolicy.Symmetric(s.policy, nonce, req.ClientNonce)
}

// answer answers a read with one text: the size of the request, and as many bytes.
func (s *server) answer(request uint32, body []byte) {
	s.send(request, encodeResponse(id.ReadResponse_Encoding_DefaultBinary, &ua.ReadResponse{ResponseHeader: responseHeader(), Results: []*ua.DataValue{
		{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(bytes.Repeat([]byte{7}, len(body)))},
	}}))
}

func (s *server) send(request uint32, body []byte) {
	for len(body) > 0 {
		part, kind := body[:min(len(body), s.chunkSize)], byte('C')
		if body = body[len(part):]; len(body) == 0 {
			kind = 'F'
		}
		s.chunk("MSG", kind, request, part)
	}
}

func (s *server) chunk(kind string, chunk byte, request uint32, part []byte) {
	s.sequence++
	b := binary.LittleEndian.AppendUint32(appendHeader(nil, kind, chunk), serverChannel)
	b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, s.token), s.sequence)
	b = append(binary.LittleEndian.AppendUint32(b, request), part...)
	b, err := protect(s.algo, b, symmetricEnd, s.mode != ua.MessageSecurityModeNone, s.mode == ua.MessageSecurityModeSignAndEncrypt)
	if err == nil {
		_, _ = s.conn.Write(b)
	}
}

func responseHeader() *ua.ResponseHeader {
	return &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}
}

func encodeResponse(kind uint16, m any) []byte {
	head, err := ua.Encode(ua.NewFourByteExpandedNodeID(0, kind))
	if err != nil {
		panic(err)
	}
	body, err := ua.Encode(m)
	if err != nil {
		panic(err)
	}
	return append(head, body...)
}

// readRequest is a request of about n bytes.
func readRequest(n int) ua.Request {
	return &ua.ReadRequest{NodesToRead: []*ua.ReadValueID{{NodeID: ua.NewStringNodeID(1, string(bytes.Repeat([]byte{'n'}, n))), DataEncoding: &ua.QualifiedName{}}}}
}

func dial(t *testing.T, address string, sec Security) *Channel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ch, err := Dial(ctx, Options{Address: address, URL: "opc.tcp://" + address, Security: sec})
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	t.Cleanup(ch.Close)
	return ch
}
