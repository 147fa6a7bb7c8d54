package mqtt

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// patience is for what has to happen; nothing is measured with it.
const patience = 20 * time.Second

// client is an MQTT client that does what the test says and nothing by itself.
type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	v    byte
	id   uint16
}

type hello struct {
	id, user, password string
	keep               bool // the session
	v                  byte // 4 or 5
	keepAlive          uint16
	will               string
	tls                *tls.Config
}

func dial(t *testing.T, network, address string, h hello) (*client, byte) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	if h.tls != nil {
		conn = tls.Client(conn, h.tls)
	}
	return greet(t, conn, h)
}

// greet sends a CONNECT and returns the code of the answer; 255: the connection was ended.
func greet(t *testing.T, conn net.Conn, h hello) (*client, byte) {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if h.v == 0 {
		h.v = 4
	}
	c := &client{t: t, conn: conn, in: bufio.NewReader(conn), v: h.v}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: h.v}
	pk.Connect = packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: h.id, Clean: !h.keep, Keepalive: max(h.keepAlive, 60)}
	if h.v == 5 && h.keep {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
	}
	if h.user != "" {
		pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte(h.user)
		pk.Connect.PasswordFlag, pk.Connect.Password = true, []byte(h.password)
	}
	if h.will != "" {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, h.will, []byte(`{"state":"offline"}`)
	}
	c.send(pk.ConnectEncode)
	got, err := c.next()
	if err != nil {
		return c, 255
	}
	if got.FixedHeader.Type != packets.Connack {
		t.Fatalf("%s: %d instead of CONNACK", h.id, got.FixedHeader.Type)
	}
	return c, got.ReasonCode
}

func (c *client) send(encode func(*bytes.Buffer) error) {
	c.t.Helper()
	var b bytes.Buffer
	if err := encode(&b); err != nil {
		c.t.Fatal(err)
	}
	_, _ = c.conn.Write(b.Bytes()) // what came of it shows when something is read
}

func (c *client) next() (pk packets.Packet, err error) {
	first, err := c.in.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	if pk.FixedHeader.Remaining, _, err = packets.DecodeLength(c.in); err != nil {
		return pk, err
	}
	b := make([]byte, pk.FixedHeader.Remaining)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return pk, err
	}
	pk.ProtocolVersion = c.v
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(b)
	case packets.Publish:
		err = pk.PublishDecode(b)
	case packets.Puback:
		err = pk.PubackDecode(b)
	case packets.Pubrec:
		err = pk.PubrecDecode(b)
	case packets.Pubcomp:
		err = pk.PubcompDecode(b)
	case packets.Suback:
		err = pk.SubackDecode(b)
	case packets.Disconnect:
		err = pk.DisconnectDecode(b)
	case packets.Pingresp:
	default:
		err = fmt.Errorf("packet of type %d", pk.FixedHeader.Type)
	}
	return pk, err
}

// await returns the next packet of a type; messages that come before are answered and dropped.
func (c *client) await(typ byte) packets.Packet {
	c.t.Helper()
	for {
		pk, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for a packet of type %d: %v", typ, err)
		}
		if pk.FixedHeader.Type == typ {
			return pk
		}
	}
}

// subscribe returns the code for the filter.
func (c *client) subscribe(filter string, qos byte) byte {
	c.t.Helper()
	c.id++
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: c.v, PacketID: c.id, Filters: packets.Subscriptions{{Filter: filter, Qos: qos}}}
	c.send(pk.SubscribeEncode)
	return c.await(packets.Suback).ReasonCodes[0]
}

func (c *client) publish(topic string, payload []byte, qos byte, retain bool) {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: retain}, ProtocolVersion: c.v, TopicName: topic, Payload: payload}
	if qos > 0 {
		c.id++
		pk.PacketID = c.id
	}
	c.send(pk.PublishEncode)
	switch qos {
	case 1:
		c.await(packets.Puback)
	case 2:
		c.await(packets.Pubrec)
		rel := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, ProtocolVersion: c.v, PacketID: c.id}
		c.send(rel.PubrelEncode)
		c.await(packets.Pubcomp)
	}
}

// message returns the next message, and acknowledges it.
func (c *client) message() packets.Packet {
	c.t.Helper()
	pk := c.await(packets.Publish)
	c.acknowledge(&pk)
	return pk
}

func (c *client) acknowledge(pk *packets.Packet) {
	if pk.FixedHeader.Qos == 1 {
		ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: c.v, PacketID: pk.PacketID}
		c.send(ack.PubackEncode)
	}
}

// ended waits for the end of the connection.
func (c *client) ended() error {
	for {
		pk, err := c.next()
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || isReset(err):
			return nil
		case err != nil:
			return err
		case pk.FixedHeader.Type == packets.Disconnect:
			return nil
		}
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}
