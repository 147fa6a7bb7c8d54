package agent

import (
	"fmt"
	"io"

	"github.com/skerry/skerry/firmware/mqtt"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// mqttDriver is the driver of devices that speak MQTT: there is one where there is a broker.
func (a *Agent) mqttDriver() []device.Driver {
	if !a.cfg.MQTT.Enabled {
		return nil
	}
	a.mqttDevices = mqtt.NewDriver()
	return []device.Driver{a.mqttDevices}
}

// newMQTT makes the event bus. Its devices are those of this gateway: without devices.enabled there is none.
func (a *Agent) newMQTT() (err error) {
	cfg := a.cfg.MQTT
	if !cfg.Enabled || a.devices == nil {
		return nil
	}
	log := a.log.With("part", "mqtt")
	for _, key := range cfg.Listeners.Exposed() {
		log.Warn("an MQTT listener without TLS can be reached from the network: passwords and values pass in the clear; prefer mqtt.listeners.tls", "key", key)
	}
	o := mqtt.Options{
		Node: a.cfg.Node.Name, Listeners: cfg.Listeners.Broker(), TLS: mqtt.TLS{Cert: cfg.TLS.CertFile, Key: cfg.TLS.KeyFile, ClientCA: cfg.TLS.ClientCAFile},
		Passwords: cfg.PasswordFile, Anonymous: cfg.Anonymous, Limits: cfg.Limits.Broker(), Devices: a.devices, Driver: a.mqttDevices,
		Members: members{a.desired, a.desired.Watch(wire.KindDevice)}, Records: mqttRecords{a.store}, Log: log,
	}
	for _, id := range cfg.Identities {
		o.Identities = append(o.Identities, mqtt.Identity(id))
	}
	if a.mqtt, err = mqtt.New(o); err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	return nil
}

// members are the devices that this node should run.
type members struct {
	desired *store.Desired
	watch   *store.Watch
}

func (m members) C() <-chan struct{} { return m.watch.C() }

func (m members) List() []string {
	m.watch.Take()
	var out []string
	for _, o := range m.desired.List(wire.KindDevice) {
		if !o.Absent {
			out = append(out, o.Key.Namespace()+"/"+o.Key.Name())
		}
	}
	return out
}

// mqttRecords keep sessions and retained messages. They share a space with the agent's other small facts: a space of their own would be damage to the
// release before, should an update be taken back.
type mqttRecords struct{ store *store.Store }

const mqttPrefix = "mqtt/"

func (r mqttRecords) Scan(fn func(key string, body []byte) error) error {
	return r.store.Scan(store.SpaceMeta, mqttPrefix, func(key string, body []byte) error { return fn(key[len(mqttPrefix):], body) })
}

func (r mqttRecords) CommitLazy(records []mqtt.Record) error {
	var b store.Batch
	for _, x := range records {
		if x.Body == nil {
			b.Delete(store.SpaceMeta, mqttPrefix+x.Key)
		} else {
			b.Put(store.SpaceMeta, mqttPrefix+x.Key, x.Body)
		}
	}
	return r.store.CommitLazy(b)
}

// mqttMeters adds the event bus's figures.
func (m *meters) mqttMeters(b *mqtt.Broker) {
	add := func(name string, read func(mqtt.Stats) float64) {
		m.set.NewGauge(name, func() float64 { return read(b.Stats()) })
	}
	add("skerry_mqtt_connections", func(s mqtt.Stats) float64 { return float64(s.Connections) })
	add("skerry_mqtt_sessions", func(s mqtt.Stats) float64 { return float64(s.Sessions) })
	add("skerry_mqtt_subscriptions", func(s mqtt.Stats) float64 { return float64(s.Subscriptions) })
	add("skerry_mqtt_retained_bytes", func(s mqtt.Stats) float64 { return float64(s.RetainedBytes) })
	add("skerry_mqtt_kept_bytes", func(s mqtt.Stats) float64 { return float64(s.KeptBytes) })
	add("skerry_mqtt_published_total", func(s mqtt.Stats) float64 { return float64(s.Published) })
	add("skerry_mqtt_delivered_total", func(s mqtt.Stats) float64 { return float64(s.Delivered) })
	add(`skerry_mqtt_refused_total{what="connection"}`, func(s mqtt.Stats) float64 { return float64(s.RefusedConnections) })
	add(`skerry_mqtt_refused_total{what="first packet"}`, func(s mqtt.Stats) float64 { return float64(s.RefusedFirst) })
	add(`skerry_mqtt_refused_total{what="identity"}`, func(s mqtt.Stats) float64 { return float64(s.RefusedIdentities) })
	add(`skerry_mqtt_refused_total{what="topic"}`, func(s mqtt.Stats) float64 { return float64(s.RefusedTopics) })
	add(`skerry_mqtt_dropped_total{why="queue"}`, func(s mqtt.Stats) float64 { return float64(s.DroppedQueue) })
	add(`skerry_mqtt_dropped_total{why="inflight"}`, func(s mqtt.Stats) float64 { return float64(s.DroppedInflight) })
	add(`skerry_mqtt_dropped_total{why="retained"}`, func(s mqtt.Stats) float64 { return float64(s.DroppedRetained) })
	add("skerry_mqtt_stalled_total", func(s mqtt.Stats) float64 { return float64(s.Stalled) })
	add("skerry_mqtt_requests_total", func(s mqtt.Stats) float64 { return float64(s.Requests) })
	add("skerry_mqtt_requests_refused_total", func(s mqtt.Stats) float64 { return float64(s.RequestsRefused) })
	add("skerry_mqtt_written_bytes_total", func(s mqtt.Stats) float64 { return float64(s.Written) })
	add("skerry_mqtt_writes_deferred_total", func(s mqtt.Stats) float64 { return float64(s.Deferred) })
	add("skerry_mqtt_unsaved_total", func(s mqtt.Stats) float64 { return float64(s.Unsaved) })
	add("skerry_mqtt_damaged_total", func(s mqtt.Stats) float64 { return float64(s.Damaged) })
}

// MQTTStatus says how the event bus does.
type MQTTStatus struct {
	Connections int    `json:"connections"`
	Sessions    int    `json:"sessions"`
	Published   uint64 `json:"published"`
	Refused     uint64 `json:"refused"`
	Dropped     uint64 `json:"dropped"`
}

func (a *Agent) mqttStatus() *MQTTStatus {
	if a.mqtt == nil {
		return nil
	}
	s := a.mqtt.Stats()
	return &MQTTStatus{
		Connections: s.Connections, Sessions: s.Sessions, Published: s.Published,
		Refused: s.RefusedConnections + s.RefusedFirst + s.RefusedIdentities + s.RefusedTopics, Dropped: s.DroppedQueue + s.DroppedInflight + s.DroppedRetained,
	}
}

func (s *MQTTStatus) print(w io.Writer) {
	if s != nil {
		fmt.Fprintf(w, "mqtt      %d clients, %d sessions, %d messages published, %d refused, %d dropped\n", s.Connections, s.Sessions, s.Published, s.Refused, s.Dropped)
	}
}
