//go:build integration

package history

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"strconv"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/hil-tests/fleet"
)

// gateway is skerryd's link over a store in memory that tells the recorder what it commits.
type gateway struct {
	*linktest.Store
	name   string
	rec    *Recorder
	client *link.Client

	mu     sync.Mutex
	values map[string]int // by register: what is held
	made   int            // reports
}

func newGateway(rec *Recorder, id fleet.Identity, roots *x509.CertPool, addresses []string) *gateway {
	g := &gateway{Store: linktest.NewStore(), name: id.Node, rec: rec, values: map[string]int{}}
	g.client = link.New(link.Options{
		Addresses: addresses, Node: id.Node, Version: "history", Desired: g,
		TLS: func() (*tls.Config, error) {
			return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: join.ServerName, Certificates: []tls.Certificate{id.Certificate}}, nil
		},
		Heartbeat: time.Second, MaxBackoff: 2 * time.Second, DialTimeout: 5 * time.Second,
	})
	return g
}

// Apply implements link.Desired.
func (g *gateway) Apply(ctx context.Context, c wire.Commit) error {
	if err := g.Store.Apply(ctx, c); err != nil {
		return err
	}
	for i := range c.Put {
		register, value, ok := g.read(&c.Put[i])
		if !ok {
			continue
		}
		g.mu.Lock()
		g.values[register] = value
		g.mu.Unlock()
		g.rec.Sees(g.name, register, value)
	}
	return nil
}

// read finds the value in an object: the configMap of all, or the desired value of the gateway's device.
func (g *gateway) read(o *wire.Object) (register string, value int, ok bool) {
	v, err := canon.ToValue(o.Body)
	if err != nil || o.Absent {
		return "", 0, false
	}
	switch {
	case o.Key == fleet.Everyone():
		register = "configMap"
		v = dig(v, "data", "n")
	case o.Key.Kind() == wire.KindDevice:
		register = "desired " + g.name
		list, _ := dig(v, "spec", "properties").([]any)
		if len(list) == 0 {
			return "", 0, false
		}
		v = dig(list[0], "desired", "value")
	}
	text, _ := v.(string)
	value, err = strconv.Atoi(text)
	return register, value, err == nil
}

func dig(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// held returns the value of a register.
func (g *gateway) held(register string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.values[register]
}

// report has the gateway's device report its next value.
func (g *gateway) report() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.made++
	body, err := canon.FromValue(map[string]any{
		"observedGeneration": int64(1),
		"conditions":         []any{map[string]any{"type": "Ready", "status": "True", "reason": "Polling", "message": ""}},
		"deviceStatus": map[string]any{"state": "online", "twins": []any{map[string]any{
			"propertyName": "level", "reported": map[string]any{"value": strconv.Itoa(g.made)},
		}}},
	})
	if err != nil {
		return err
	}
	g.rec.Writes(g.name, "reported "+g.name, g.made)
	g.client.Report(wire.NewKey(wire.KindDevice, fleet.Namespace, "device-"+g.name, ""), body)
	return nil
}

// register makes the node known.
func (g *gateway) register() error {
	body, err := canon.FromValue(map[string]any{"status": map[string]any{
		"conditions": []any{map[string]any{"type": "Ready", "status": "True", "reason": "Test", "message": ""}},
		"capacity":   map[string]any{"pods": "10"}, "allocatable": map[string]any{"pods": "10"},
	}})
	if err == nil {
		g.client.Report(wire.NewKey(wire.KindNode, "", g.name, ""), body)
	}
	return err
}
