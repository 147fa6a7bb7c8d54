//go:build integration

package network_test

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	plcIP     = "192.0.2.77"
	serviceIP = "10.96.0.50"
)

// The plant's resolver knows a controller, and a Service as a cluster's DNS would; and that there is nothing else.
var names = map[string]string{"plc.plant.example.": plcIP, "stub.default.svc.cluster.local.": serviceIP}

// serveNames is that resolver.
func serveNames(t *testing.T, at string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				if b := answer(buf[:n]); b != nil {
					conn.WriteTo(b, from) //nolint:errcheck // whoever asked asks again
				}
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close() //nolint:errcheck // ends the loop
		<-done
	})
}

func answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Answers, m.Additionals = true, true, nil, nil
	switch {
	case names[q.Name.String()] == "":
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(names[q.Name.String()]).To4())},
		}}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}
