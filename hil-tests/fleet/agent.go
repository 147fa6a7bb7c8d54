package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/join"
)

// Agent is one simulated gateway.
type Agent struct {
	Name string

	fleet    *Fleet
	number   int
	identity tls.Certificate
	live     *Live
	net      network
	holdings holdings
	values   atomic.Int64 // device reports made, for their values to differ

	mu      sync.Mutex
	client  *link.Client
	stop    context.CancelFunc
	done    chan struct{}
	outbox  *outbox
	devices []wire.Key
	pods    map[wire.Key]bool // true once its end was reported
	dials   []string          // the relays in order; nil: the fleet's
}

// Network changes how the agent's network behaves.
func (a *Agent) Network(c Condition) { a.net.set(c) }

// Cut resets the agent's connection.
func (a *Agent) Cut() { a.net.cut() }

// Traffic returns what passed the agent's sockets since it was made.
func (a *Agent) Traffic() Traffic { return a.net.traffic() }

// Held returns what the agent holds.
func (a *Agent) Held() map[wire.Key]wire.Version { return a.holdings.versions() }

// Status returns the link's state, the zero Status while the agent is stopped.
func (a *Agent) Status() link.Status {
	a.mu.Lock()
	c := a.client
	a.mu.Unlock()
	if c == nil {
		return link.Status{}
	}
	return c.Status()
}

// Report offers a status document, as the agent's pods and devices do.
func (a *Agent) Report(key wire.Key, body []byte) {
	a.mu.Lock()
	c := a.client
	a.mu.Unlock()
	if c != nil {
		c.Report(key, body)
	}
}

// Values is how often the agent's devices have reported a new value, which is the value that they reported last.
func (a *Agent) Values() int64 { return a.values.Load() }

// ReportValue reports a new value of each of the agent's devices.
func (a *Agent) ReportValue() {
	n := a.values.Add(1)
	a.mu.Lock()
	devices := a.devices
	a.mu.Unlock()
	for _, d := range devices {
		a.Report(d, deviceReport(n))
	}
}

// Documents returns the size of the newest status documents that the agent reports, with their keys, in bytes. A reconnect
// offers all of them again.
func (a *Agent) Documents() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fleet.opts.Mute {
		return 0
	}
	size := len(a.fleet.nodeBody) + len(wire.NewKey(wire.KindNode, "", a.Name, ""))
	for _, d := range a.devices {
		size += len(deviceReport(a.values.Load())) + len(d)
	}
	for p, ended := range a.pods {
		size += len(podReport(ended)) + len(p)
	}
	return size
}

// Event appends an event about the node to the outbox.
func (a *Agent) Event(reason, message string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.outbox == nil {
		a.outbox = newOutbox()
	}
	a.outbox.append(eventBody(a.Name, reason, message))
}

func (a *Agent) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil {
		return
	}
	o := a.fleet.opts
	lo := link.Options{
		Addresses: a.fleet.addresses(a.number, a.dials), Node: a.Name, Version: "fleet",
		TLS:     func() (*tls.Config, error) { return clientTLS(o.Roots, a.identity), nil },
		Desired: &a.holdings, Log: o.Log,
		Heartbeat: o.Heartbeat, MaxBackoff: o.MaxBackoff, DialTimeout: o.DialTimeout,
		Dial: a.net.dial,
	}
	if a.live != nil {
		lo.TLS, lo.Expired, lo.Clock = a.live.TLS, a.live.Expired, a.live.Clock
	}
	if o.Events {
		if a.outbox == nil {
			a.outbox = newOutbox()
		}
		lo.Outbox = a.outbox
	}
	a.client = link.New(lo)
	if !o.Mute {
		a.client.Report(wire.NewKey(wire.KindNode, "", a.Name, ""), a.fleet.nodeBody)
		for _, d := range a.devices {
			a.client.Report(d, deviceReport(a.values.Load()))
		}
		for p, ended := range a.pods {
			a.client.Report(p, podReport(ended))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stop, a.done = cancel, make(chan struct{})
	go func(c *link.Client, done chan struct{}) {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			o.Log.Error("the link ended", slog.String("node", a.Name), slog.Any("error", err))
		}
	}(a.client, a.done)
}

// end stops the agent; done is closed when it has ended, and nil if it did not run.
func (a *Agent) end() (done <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client == nil {
		return nil
	}
	a.stop()
	a.client = nil
	return a.done
}

// applied plays the part of the agent's pods and devices: it reports on what it was given.
func (a *Agent) applied(c *wire.Commit) {
	now := time.Now()
	for i := range c.Put {
		a.fleet.puts.count(&c.Put[i])
		a.fleet.committed(a, &c.Put[i], now)
		if !a.fleet.opts.Mute {
			a.take(&c.Put[i])
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range c.Delete {
		delete(a.pods, k)
		if i := slices.Index(a.devices, k); i >= 0 {
			a.devices = slices.Delete(slices.Clone(a.devices), i, i+1)
		}
		if a.client != nil {
			a.client.Withdraw(k)
		}
	}
}

func (a *Agent) take(o *wire.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client == nil {
		return
	}
	switch o.Key.Kind() {
	case wire.KindPod:
		ended, known := a.pods[o.Key]
		if now := terminating(o.Body); !known || now != ended {
			if a.pods == nil {
				a.pods = map[wire.Key]bool{}
			}
			a.pods[o.Key] = now
			a.client.Report(o.Key, podReport(now))
		}
	case wire.KindDevice:
		if !slices.Contains(a.devices, o.Key) {
			a.devices = append(a.devices[:len(a.devices):len(a.devices)], o.Key)
			a.client.Report(o.Key, deviceReport(a.values.Load()))
		}
	}
}

// clientTLS is identity.TLSConfig of an identity that is not kept on a disk.
func clientTLS(roots *x509.CertPool, cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: join.ServerName, Certificates: []tls.Certificate{cert},
	}
}

// outbox is a link.Outbox in memory. Safe for concurrent use.
type outbox struct {
	mu      sync.Mutex
	items   []wire.OutboxItem
	epoch   uint64
	seq     uint64
	changed chan struct{}
}

func newOutbox() *outbox {
	return &outbox{epoch: uint64(time.Now().UnixNano()), changed: make(chan struct{}, 1)}
}

func (o *outbox) append(body []byte) {
	o.mu.Lock()
	o.seq++
	o.items = append(o.items, wire.OutboxItem{Epoch: o.epoch, Seq: o.seq, Kind: wire.KindOfEvent, Body: bytes.Clone(body)})
	o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// C implements link.OutboxNotifier.
func (o *outbox) C() <-chan struct{} { return o.changed }

// Pending implements link.Outbox.
func (o *outbox) Pending(after uint64, limit int) []wire.OutboxItem {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []wire.OutboxItem
	for _, it := range o.items {
		if it.Seq > after && len(out) < limit {
			out = append(out, it)
		}
	}
	return out
}

// Ack implements link.Outbox.
func (o *outbox) Ack(_, seq uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < len(o.items) && o.items[n].Seq <= seq {
		n++
	}
	o.items = o.items[n:]
	return nil
}
