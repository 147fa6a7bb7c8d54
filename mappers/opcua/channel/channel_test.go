package channel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// TestEveryPolicyAndMode: messages of one chunk and of many, both ways, before and after a renewal of the keys; keys longer than
// 2048 bits have another form of padding.
func TestEveryPolicyAndMode(t *testing.T) {
	defer goleak.VerifyNone(t)
	small, large := newIdentity(t, 2048), newIdentity(t, 3072)
	for _, policy := range []string{ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss, ua.SecurityPolicyURINone} {
		for _, mode := range []ua.MessageSecurityMode{ua.MessageSecurityModeSign, ua.MessageSecurityModeSignAndEncrypt} {
			for _, pair := range [][2]identity{{small, small}, {small, large}, {large, small}} {
				sec := Security{Policy: policy, Mode: mode, Certificate: pair[0].der, Key: pair[0].key, Remote: pair[1].der}
				if policy == ua.SecurityPolicyURINone {
					sec = None()
				}
				t.Run(fmt.Sprintf("%s %s %d %d", policy[len(ua.SecurityPolicyURIPrefix):], mode, pair[0].key.Size(), pair[1].key.Size()), func(t *testing.T) {
					ch := dial(t, start(t, pair[1], sec, nil), sec)
					exchange(t, ch)
					if err := ch.Renew(t.Context()); err != nil {
						t.Fatalf("Renew: %v", err)
					}
					exchange(t, ch)
				})
			}
		}
	}
}

func exchange(t *testing.T, ch *Channel) {
	t.Helper()
	var wg sync.WaitGroup
	for _, n := range []int{0, 1, 15, 16, 8000, 65400, 70000, 300000} {
		wg.Go(func() {
			got, err := ch.Call(t.Context(), readRequest(n), nil)
			if err != nil {
				t.Errorf("a request of %d bytes: %v", n, err)
				return
			}
			b, _ := got.(*uabin.ReadResponse).Results[0].Value.V.([]byte)
			if len(b) < n || !bytes.Equal(b, bytes.Repeat([]byte{7}, len(b))) {
				t.Errorf("a request of %d bytes came back with %d", n, len(b))
			}
		})
	}
	wg.Wait()
}

// TestTampered: a single changed bit, a replayed and a dropped message end a secured channel.
func TestTampered(t *testing.T) {
	own := newIdentity(t, 2048)
	sec := Security{Policy: ua.SecurityPolicyURIBasic256Sha256, Mode: ua.MessageSecurityModeSignAndEncrypt, Certificate: own.der, Key: own.key, Remote: own.der}
	for name, bad := range map[string]func(s *server, request uint32, body []byte) bool{
		"a token that was not given": func(s *server, request uint32, body []byte) bool {
			s.token += 5
			s.answer(request, body)
			return true
		},
		"a sequence number that was used": func(s *server, request uint32, body []byte) bool {
			s.sequence--
			s.answer(request, body)
			return true
		},
		"a sequence number left out": func(s *server, request uint32, body []byte) bool {
			s.sequence++
			s.answer(request, body)
			return true
		},
		"no security at all": func(s *server, request uint32, body []byte) bool {
			s.mode = ua.MessageSecurityModeNone
			s.answer(request, body)
			return true
		},
		"signed and not encrypted": func(s *server, request uint32, body []byte) bool {
			s.mode = ua.MessageSecurityModeSign
			s.answer(request, body)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			ch := dial(t, start(t, own, sec, bad), sec)
			if got, err := ch.Call(t.Context(), readRequest(10), nil); err == nil {
				t.Errorf("accepted: %+v", got)
			}
			if ch.Err() == nil {
				t.Error("the channel goes on")
			}
		})
	}
}

// TestAnotherCertificate: the answer to the opening must come from the certificate that was verified.
func TestAnotherCertificate(t *testing.T) {
	own, other := newIdentity(t, 2048), newIdentity(t, 2048)
	sec := Security{Policy: ua.SecurityPolicyURIBasic256Sha256, Mode: ua.MessageSecurityModeSign, Certificate: own.der, Key: own.key, Remote: own.der}
	address := start(t, other, sec, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if ch, err := Dial(ctx, Options{Address: address, Security: sec}); err == nil {
		ch.Close()
		t.Error("a server with another certificate was accepted")
	}
}

// TestHostile: a peer without manners costs its channel or its request, and little memory.
func TestHostile(t *testing.T) {
	for name, c := range map[string]struct {
		bad   func(s *server, request uint32, body []byte) bool
		lives bool // the channel goes on
	}{
		"silence": {bad: func(*server, uint32, []byte) bool { return true }, lives: true},
		"a response without end": {lives: true, bad: func(s *server, request uint32, _ []byte) bool {
			for range 2 * maxMessage / 60000 {
				s.chunk("MSG", 'C', request, make([]byte, 60000))
			}
			return true
		}},
		"replies that nobody asked for": {bad: func(s *server, request uint32, _ []byte) bool {
			for i := range uint32(maxStrays + 10) {
				s.chunk("MSG", 'F', request+1000+i, []byte("x"))
			}
			return true
		}},
		"beginnings of many responses": {lives: true, bad: func(s *server, request uint32, _ []byte) bool {
			for i := range uint32(100) {
				s.chunk("MSG", 'C', request+1000+i, make([]byte, 60000))
			}
			return true
		}},
		"a response that is garbage": {lives: true, bad: func(s *server, request uint32, _ []byte) bool {
			s.send(request, []byte{1, 0, 0x7a, 0x02, 0xff, 0xff, 0xff, 0x7f})
			return true
		}},
		"an abort": {lives: true, bad: func(s *server, request uint32, _ []byte) bool {
			s.chunk("MSG", 'A', request, binary.LittleEndian.AppendUint32(nil, uint32(ua.StatusBadResponseTooLarge)))
			return true
		}},
		"a fault": {lives: true, bad: func(s *server, request uint32, _ []byte) bool {
			h := responseHeader()
			h.ServiceResult = ua.StatusBadTooManyOperations
			s.send(request, encodeResponse(id.ServiceFault_Encoding_DefaultBinary, &ua.ServiceFault{ResponseHeader: h}))
			return true
		}},
		"a message that claims 4 GB": {bad: func(s *server, _ uint32, _ []byte) bool {
			_, _ = s.conn.Write([]byte("MSGF\xff\xff\xff\xff"))
			return true
		}},
		"HTTP": {bad: func(s *server, _ uint32, _ []byte) bool {
			_, _ = s.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			return true
		}},
		"an error message": {bad: func(s *server, _ uint32, _ []byte) bool {
			b := binary.LittleEndian.AppendUint32(appendHeader(nil, "ERR", 'F'), uint32(ua.StatusBadTCPServerTooBusy))
			b = appendText(b, "too busy")
			putSize(b, len(b))
			_, _ = s.conn.Write(b)
			return true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			old := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, old) })
			ch := dial(t, start(t, identity{}, None(), c.bad), None())
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			started := time.Now()
			got, err := ch.Call(ctx, readRequest(10), nil)
			if err == nil {
				t.Errorf("a response: %+v", got)
			}
			if took := time.Since(started); took > 5*time.Second {
				t.Errorf("the call took %v after a context of 300 ms", took)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if after.HeapAlloc > before.HeapAlloc+2*maxMessage {
				t.Errorf("it cost %d KiB", (after.HeapAlloc-before.HeapAlloc)>>10)
			}
			if !c.lives {
				<-ch.Done()
			} else if ch.Err() != nil {
				t.Errorf("the channel ended: %v", ch.Err())
			}
			if strings.Contains(name, "abort") && !errors.Is(err, ua.StatusBadResponseTooLarge) || strings.Contains(name, "fault") && !errors.Is(err, ua.StatusBadTooManyOperations) {
				t.Errorf("the error is %v", err)
			}
			ch.Close()
		})
	}
}

// TestDialObeysContext: a server that accepts and says nothing does not hold the caller.
func TestDialObeysContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	_, err = Dial(ctx, Options{Address: l.Addr().String(), Security: None()})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Dial: %v", err)
	}
}

func TestAcknowledge(t *testing.T) {
	make := func(n ...uint32) frame {
		b := appendHeader(nil, "ACK", 'F')
		for _, x := range n {
			b = binary.LittleEndian.AppendUint32(b, x)
		}
		return frame{kind: "ACK", chunk: 'F', b: b}
	}
	for name, f := range map[string]frame{"tiny buffers": make(0, 100, 100, 0, 0), "chunks larger than offered": make(0, 65536, 1<<30, 0, 0), "half of it": make(0, 65536), "another kind": {kind: "MSG", b: make().b}} {
		if got, err := acknowledge(f); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got, err := acknowledge(make(0, 1<<31, 8192, 1<<31, 5)); err != nil || got.chunk != bufferSize || got.message != 1<<30 || got.chunkCount != 5 {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzInbound: no bytes of a server make the receiving side panic, or deliver what was not asked for.
func FuzzInbound(f *testing.F) {
	f.Add([]byte("ERRF\x10\x00\x00\x00\x00\x00\x00\x80\xff\xff\xff\xff"))
	b := binary.LittleEndian.AppendUint32(appendHeader(nil, "MSG", 'F'), serverChannel)
	for _, n := range []uint32{1, 1, 1} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = append(b, encodeResponse(id.ServiceFault_Encoding_DefaultBinary, &ua.ServiceFault{ResponseHeader: responseHeader()})...)
	putSize(b, len(b))
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		asym, err := (&Security{Policy: ua.SecurityPolicyURINone, Mode: ua.MessageSecurityModeNone}).asymmetric()
		if err != nil {
			t.Fatal(err)
		}
		to := make(chan Reply, 1)
		c := &Channel{sec: None(), asym: asym, id: serverChannel, tokens: []*token{{id: 1, algo: asym}}, pending: map[uint32]*waiting{1: {to: to}}}
		in := inbound{c: c}
		r, buf := bytes.NewReader(data), make([]byte, bufferSize)
		for {
			fr, err := readFrame(r, buf)
			if err != nil || in.take(fr) != nil {
				break
			}
		}
		if len(c.pending) == 0 && len(to) != 1 {
			t.Error("a request is neither pending nor answered")
		}
	})
}

// FuzzOpen: no ciphertext makes the opening of a chunk panic.
func FuzzOpen(f *testing.F) {
	sec := Security{Policy: ua.SecurityPolicyURINone, Mode: ua.MessageSecurityModeNone}
	algo, err := sec.asymmetric()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(make([]byte, 32), true)
	f.Fuzz(func(_ *testing.T, b []byte, long bool) {
		key := 256
		if long {
			key = 384
		}
		head := min(len(b), symmetricEnd)
		_, _ = open(algo, b, head, key, true, true)
		_, _ = open(algo, b, head, key, true, false)
	})
}
