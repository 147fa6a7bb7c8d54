package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/mqtt"
)

// MQTT is the event bus: the broker in the agent.
type MQTT struct {
	Enabled      bool           `yaml:"enabled"`
	Listeners    MQTTListeners  `yaml:"listeners"`
	TLS          MQTTTLS        `yaml:"tls"`
	PasswordFile string         `yaml:"passwordFile"`
	Anonymous    string         `yaml:"anonymous"` // the identity of local callers without a user name; empty: they are refused
	Identities   []MQTTIdentity `yaml:"identities"`
	Limits       MQTTLimits     `yaml:"limits"`
}

// MQTTListeners are where clients come in; what is empty is off.
type MQTTListeners struct {
	TCP          string `yaml:"tcp"`
	TLS          string `yaml:"tls"`
	WebSocket    string `yaml:"websocket"`
	WebSocketTLS string `yaml:"websocketTLS"`
	Socket       string `yaml:"socket"`
	SocketMode   string `yaml:"socketMode"` // octal
}

// MQTTTLS are the files of the TLS listeners.
type MQTTTLS struct {
	CertFile     string `yaml:"certFile"`
	KeyFile      string `yaml:"keyFile"`
	ClientCAFile string `yaml:"clientCAFile"` // empty: no client certificates
}

// MQTTIdentity is one who may use the broker.
type MQTTIdentity struct {
	Name        string   `yaml:"name"`
	Device      string   `yaml:"device,omitempty"` // NAMESPACE/NAME
	Certificate string   `yaml:"certificate,omitempty"`
	Publish     []string `yaml:"publish,omitempty"`
	Subscribe   []string `yaml:"subscribe,omitempty"`
}

// MQTTLimits bound what clients take.
type MQTTLimits struct {
	Payload              Bytes         `yaml:"payload"`
	Connections          int           `yaml:"connections"`
	ConnectionsPerSource int           `yaml:"connectionsPerSource"`
	Sessions             int           `yaml:"sessions"`
	SessionsPerIdentity  int           `yaml:"sessionsPerIdentity"`
	SessionExpiry        time.Duration `yaml:"sessionExpiry"`
	MessagesPerSecond    int           `yaml:"messagesPerSecond"`
	Inflight             int           `yaml:"inflight"`
	Queue                int           `yaml:"queue"`
	QueueBytes           Bytes         `yaml:"queueBytes"`
	Subscriptions        int           `yaml:"subscriptions"`
	Retained             Bytes         `yaml:"retained"`
	Kept                 Bytes         `yaml:"kept"`
	FlashRate            Bytes         `yaml:"flashRate"`
	KeepAlive            time.Duration `yaml:"keepAlive"`
}

func defaultMQTT() MQTT {
	l := mqtt.DefaultLimits()
	return MQTT{
		Listeners: MQTTListeners{TCP: "127.0.0.1:1883", SocketMode: "0600"}, Identities: []MQTTIdentity{},
		Limits: MQTTLimits{
			Payload: Bytes(l.Payload), Connections: l.Connections, ConnectionsPerSource: l.ConnectionsPerSource, Sessions: l.Sessions,
			SessionsPerIdentity: l.SessionsPerIdentity, SessionExpiry: l.SessionExpiry, MessagesPerSecond: l.MessagesPerSecond, Inflight: l.Inflight,
			Queue: l.Queue, QueueBytes: Bytes(l.QueueBytes), Subscriptions: l.Subscriptions, Retained: Bytes(l.Retained), Kept: Bytes(l.Kept),
			FlashRate: Bytes(l.FlashRate), KeepAlive: l.KeepAlive,
		},
	}
}

// Broker returns the limits in the broker's form.
func (l MQTTLimits) Broker() mqtt.Limits {
	return mqtt.Limits{
		Payload: int(l.Payload), Connections: l.Connections, ConnectionsPerSource: l.ConnectionsPerSource, Sessions: l.Sessions,
		SessionsPerIdentity: l.SessionsPerIdentity, SessionExpiry: l.SessionExpiry, MessagesPerSecond: l.MessagesPerSecond, Inflight: l.Inflight,
		Queue: l.Queue, QueueBytes: int(l.QueueBytes), Subscriptions: l.Subscriptions, Retained: int(l.Retained), Kept: int(l.Kept),
		FlashRate: int(l.FlashRate), KeepAlive: l.KeepAlive,
	}
}

// Broker returns the listeners in the broker's form.
func (l MQTTListeners) Broker() (out []mqtt.Listener) {
	mode, err := strconv.ParseUint(l.SocketMode, 8, 32)
	if err != nil {
		mode = 0o600 // check has refused it
	}
	for _, x := range []mqtt.Listener{
		{Kind: mqtt.KindTCP, Address: l.TCP}, {Kind: mqtt.KindTLS, Address: l.TLS}, {Kind: mqtt.KindWS, Address: l.WebSocket},
		{Kind: mqtt.KindWSS, Address: l.WebSocketTLS}, {Kind: mqtt.KindUnix, Address: l.Socket, Mode: os.FileMode(mode)},
	} {
		if x.Address != "" {
			out = append(out, x)
		}
	}
	return out
}

// check judges the event bus; most of it counts only where it is enabled.
func (m MQTT) check(bad func(key string, value any, allowed string), between func(key string, d, least, most time.Duration)) {
	m.checkListeners(bad)
	m.checkIdentities(bad)
	m.Limits.check(bad, between)
	if m.PasswordFile != "" && !filepath.IsAbs(m.PasswordFile) {
		bad("mqtt.passwordFile", m.PasswordFile, "an absolute path is needed, as /etc/skerry/mqtt.passwords; empty: no passwords")
	}
}

func (m MQTT) checkListeners(bad func(key string, value any, allowed string)) {
	l := m.Listeners
	for _, x := range []struct{ key, address string }{{"tcp", l.TCP}, {"tls", l.TLS}, {"websocket", l.WebSocket}, {"websocketTLS", l.WebSocketTLS}} {
		if x.address == "" {
			continue
		}
		if err := hostPort(x.address, true); err != nil {
			bad("mqtt.listeners."+x.key, x.address, err.Error()+"; empty: off")
		}
	}
	if s := l.Socket; s != "" && (!filepath.IsAbs(s) || len(s) > maxSocketPath) {
		bad("mqtt.listeners.socket", s, fmt.Sprintf("an absolute path of at most %d bytes is needed, as /run/skerry/mqtt.sock; empty: off", maxSocketPath))
	}
	if mode, err := strconv.ParseUint(l.SocketMode, 8, 32); err != nil || mode == 0 || mode > 0o777 {
		bad("mqtt.listeners.socketMode", l.SocketMode, `allowed are the octal modes "0001" to "0777", as "0600" or "0660"`)
	}
	for _, f := range []struct{ key, path string }{{"certFile", m.TLS.CertFile}, {"keyFile", m.TLS.KeyFile}, {"clientCAFile", m.TLS.ClientCAFile}} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			bad("mqtt.tls."+f.key, f.path, "an absolute path is needed")
		}
	}
	if (l.TLS != "" || l.WebSocketTLS != "") && (m.TLS.CertFile == "" || m.TLS.KeyFile == "") {
		bad("mqtt.tls.certFile", m.TLS.CertFile, "mqtt.listeners.tls and websocketTLS need mqtt.tls.certFile and mqtt.tls.keyFile")
	}
	if m.Enabled && l.TCP+l.TLS+l.WebSocket+l.WebSocketTLS+l.Socket == "" {
		bad("mqtt.listeners", "", "mqtt.enabled needs one listener at least")
	}
}

// Exposed lists the listeners without TLS that others on the network can reach: passwords pass them in the clear.
func (l MQTTListeners) Exposed() (out []string) {
	for _, x := range []struct{ key, address string }{{"tcp", l.TCP}, {"websocket", l.WebSocket}} {
		if x.address == "" {
			continue
		}
		host, _, err := net.SplitHostPort(x.address)
		if ip, bad := netip.ParseAddr(host); err != nil || host != "localhost" && (bad != nil || !ip.IsLoopback()) {
			out = append(out, "mqtt.listeners."+x.key)
		}
	}
	return out
}

func (m MQTT) checkIdentities(bad func(key string, value any, allowed string)) {
	names, certificates := make(map[string]bool), make(map[string]bool)
	for i, id := range m.Identities {
		key := fmt.Sprintf("mqtt.identities[%d]", i)
		if !mqtt.ValidUser(id.Name) || names[id.Name] {
			bad(key+".name", id.Name, "allowed are 1 to 128 letters, digits and -_.@/, each name once")
		}
		names[id.Name] = true
		if id.Device != "" && !mqtt.ValidDevice(id.Device) {
			bad(key+".device", id.Device, "allowed is NAMESPACE/NAME of a Device, as default/pump")
		}
		if id.Certificate != "" && certificates[id.Certificate] {
			bad(key+".certificate", id.Certificate, "another identity has it")
		}
		certificates[id.Certificate] = true
		for _, f := range []struct {
			key  string
			list []string
		}{{"publish", id.Publish}, {"subscribe", id.Subscribe}} {
			for j, filter := range f.list {
				if !mqtt.ValidFilter(filter) {
					bad(fmt.Sprintf("%s.%s[%d]", key, f.key, j), filter, "allowed are topic filters of at most 1024 bytes and 32 levels, as plant/+/temperature or plant/#")
				}
			}
		}
	}
	if m.Anonymous != "" && !names[m.Anonymous] {
		bad("mqtt.anonymous", m.Anonymous, "it must be the name of one of mqtt.identities; empty: whoever gives no user name is refused")
	}
}

func (l MQTTLimits) check(bad func(key string, value any, allowed string), between func(key string, d, least, most time.Duration)) {
	for _, x := range []struct {
		key                string
		value, least, most int64
	}{
		{"connections", int64(l.Connections), 1, 10000},
		{"connectionsPerSource", int64(l.ConnectionsPerSource), 1, 10000},
		{"sessions", int64(l.Sessions), 1, 10000},
		{"sessionsPerIdentity", int64(l.SessionsPerIdentity), 1, 10000},
		{"messagesPerSecond", int64(l.MessagesPerSecond), 1, 100000},
		{"inflight", int64(l.Inflight), 1, 10000},
		{"queue", int64(l.Queue), 1, 10000},
		{"subscriptions", int64(l.Subscriptions), 1, 10000},
	} {
		if x.value < x.least || x.value > x.most {
			bad("mqtt.limits."+x.key, x.value, fmt.Sprintf("allowed are %d to %d", x.least, x.most))
		}
	}
	for _, x := range []struct {
		key                string
		value, least, most Bytes
	}{
		{"payload", l.Payload, 256, 16 << 20},
		{"queueBytes", l.QueueBytes, l.Payload, 1 << 30},
		{"retained", l.Retained, 0, 1 << 30},
		{"kept", l.Kept, 0, 1 << 30},
		{"flashRate", l.FlashRate, 256, 16 << 20},
	} {
		if x.value < x.least || x.value > x.most {
			bad("mqtt.limits."+x.key, x.value, fmt.Sprintf("allowed are %v to %v", x.least, x.most))
		}
	}
	between("mqtt.limits.sessionExpiry", l.SessionExpiry, time.Minute, 365*24*time.Hour)
	between("mqtt.limits.keepAlive", l.KeepAlive, 10*time.Second, 12*time.Hour)
}
