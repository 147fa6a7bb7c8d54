package push

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// MQTT 3.1.1 (OASIS standard, 2014): as much of it as a publisher with QoS 0 and 1 needs.
const (
	mqttConnect    = 1 << 4
	mqttConnack    = 2
	mqttPublish    = 3 << 4
	mqttPuback     = 4
	mqttPingreq    = 12 << 4
	mqttPingresp   = 13
	mqttDisconnect = 14 << 4
	mqttMaxReply   = 1024 // a publisher gets answers of two bytes
)

func parseMQTT(path string, data map[string]any) (target, error) {
	f := read(path, data, "address", "topic", "qos", "retained")
	f.Require("the broker's address, as tcp://broker.example:1883", "address")
	t := target{opt: &options{topic: f.text("topic"), retained: f.Bool(false, "retained")}}
	t.timeout = defaultTimeout
	if qos := f.Int(0, 0, 2, "qos"); qos == 2 {
		f.Fail("qos", qos, "is not supported", "0, 1 (either is acknowledged by the broker before the values count as sent, docs/push.md)")
	} else {
		t.opt.qos = byte(qos)
	}
	if strings.ContainsAny(t.opt.topic, "+#") {
		f.Fail("topic", t.opt.topic, "has a wildcard", "a name without + and #")
	}
	if text := f.text("address"); text != "" {
		base, rest := address(f.Fields, "address", bare(text, "tcp"), 0, map[string]int{"tcp": 1883, "mqtt": 1883, "ssl": 8883, "tls": 8883, "mqtts": 8883})
		if rest != "" && rest != "/" {
			f.Fail("address", text, "has a path", "tcp://HOST:PORT, ssl://HOST:PORT")
		}
		t.address = base
	}
	return t, f.err()
}

type mqttSender struct {
	*stream
	c credential
}

func dialMQTT(e endpoint, c credential) (sender, error) {
	s, err := newStream(e, c, "ssl", "tls", "mqtts")
	if err != nil {
		return nil, err
	}
	return &mqttSender{s, c}, nil
}

// send publishes all, and waits until the broker has all: for the acknowledgements of QoS 1, and for the answer to a ping behind those of QoS 0, because brokers
// read a connection in order (section 4.6).
func (m *mqttSender) send(ctx context.Context, items []item) (tally, error) {
	begun, release, err := m.open(ctx)
	if err != nil {
		return tally{}, err
	}
	defer release()
	if begun {
		if err := m.connect(); err != nil {
			return tally{}, err
		}
	}
	var b []byte
	waits := map[uint16]bool{}
	for i := range items {
		payload, err := json.Marshal(document(&items[i]))
		if err != nil {
			return tally{}, fmt.Errorf("encode the value: %w", err)
		}
		id := uint16(0)
		if items[i].opt.qos == 1 {
			id = uint16(i%65535) + 1 //nolint:gosec // of a batch
			waits[id] = true
		}
		b = mqttAppendPublish(b, topicOf(&items[i]), id, items[i].opt.retained, payload)
	}
	if len(waits) < len(items) {
		b = append(b, mqttPingreq, 0)
	}
	if _, err := m.conn.Write(b); err != nil {
		return tally{}, err
	}
	return tally{}, m.await(waits, len(waits) < len(items))
}

func (m *mqttSender) await(waits map[uint16]bool, ping bool) error {
	for len(waits) > 0 || ping {
		kind, body, err := mqttRead(m.r)
		switch {
		case err != nil:
			return fmt.Errorf("wait for acknowledgements: %w", err)
		case kind == mqttPuback && len(body) == 2:
			delete(waits, binary.BigEndian.Uint16(body))
		case kind == mqttPingresp:
			ping = false
		default:
			return fmt.Errorf("the broker sends a packet of type %d with %d bytes, which answers nothing", kind, len(body))
		}
	}
	return nil
}

func (m *mqttSender) connect() error {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	if _, err := m.conn.Write(mqttAppendConnect(nil, "skerry-"+hex.EncodeToString(id[:]), m.c.Username, m.c.Password)); err != nil {
		return err
	}
	kind, body, err := mqttRead(m.r)
	if err != nil {
		return fmt.Errorf("wait for CONNACK: %w", err)
	}
	return mqttAccepted(kind, body)
}

func mqttAccepted(kind byte, body []byte) error {
	if kind != mqttConnack || len(body) != 2 {
		return fmt.Errorf("the broker answers CONNECT with a packet of type %d and %d bytes: is it an MQTT 3.1.1 broker?", kind, len(body))
	}
	switch body[1] {
	case 0:
		return nil
	case 4, 5:
		return errors.New("the broker refuses the credentials, or this gateway may not connect: see the file that devices.push.credentials names")
	default:
		return fmt.Errorf("the broker refuses the connection with code %d (MQTT 3.1.1, section 3.2.2.3)", body[1])
	}
}

func (m *mqttSender) close() {
	if m.conn != nil {
		if m.conn.SetDeadline(time.Now().Add(time.Second)) == nil {
			_, _ = m.conn.Write([]byte{mqttDisconnect, 0}) // a courtesy
		}
	}
	m.stream.close()
}

// topicOf is where the value is published.
func topicOf(it *item) string {
	if it.opt.topic != "" {
		return it.opt.topic
	}
	level := strings.NewReplacer("/", "_", "+", "_", "#", "_", "\x00", "_")
	return "skerry/" + level.Replace(it.Namespace) + "/" + level.Replace(it.Device) + "/" + level.Replace(it.Property)
}

func mqttAppendText(b []byte, s string) []byte {
	s = s[:min(len(s), 65535)]
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) //nolint:gosec // clipped
}

func mqttAppendPacket(b []byte, first byte, body []byte) []byte {
	b = append(b, first)
	n := len(body)
	for n >= 128 {
		b = append(b, byte(n&127|128))
		n >>= 7
	}
	return append(append(b, byte(n)), body...)
}

func mqttAppendConnect(b []byte, id, user, password string) []byte {
	body := append(mqttAppendText(nil, "MQTT"), 4, 2, 0, 0) // level 4, clean session, no keep-alive: a lost connection is noticed with the next batch
	body = mqttAppendText(body, id)
	if user != "" {
		body[7] |= 0x80
		body = mqttAppendText(body, user)
		if password != "" {
			body[7] |= 0x40
			body = mqttAppendText(body, password)
		}
	}
	return mqttAppendPacket(b, mqttConnect, body)
}

// mqttAppendPublish appends a message: with QoS 1 if it has an id.
func mqttAppendPublish(b []byte, topic string, id uint16, retained bool, payload []byte) []byte {
	first := byte(mqttPublish)
	if retained {
		first |= 1
	}
	body := mqttAppendText(nil, topic)
	if id != 0 {
		first |= 1 << 1
		body = binary.BigEndian.AppendUint16(body, id)
	}
	return mqttAppendPacket(b, first, append(body, payload...))
}

// mqttRead reads a packet and returns its type and what follows its length.
func mqttRead(r *bufio.Reader) (kind byte, body []byte, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n := 0
	for i := 0; ; i++ {
		c, err := r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		if n |= int(c&127) << (7 * i); c < 128 {
			break
		}
		if i == 3 {
			return 0, nil, errors.New("the length of a packet has more than 4 bytes: this is no MQTT")
		}
	}
	if n > mqttMaxReply {
		return 0, nil, fmt.Errorf("a packet of %d bytes: a publisher gets no more than %d", n, mqttMaxReply)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return first >> 4, body, err
}
