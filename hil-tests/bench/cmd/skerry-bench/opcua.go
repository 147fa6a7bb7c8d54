package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/opcualean"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// The plant: 10 servers with 10 devices each, 1,000 Doubles in each device, every one of which changes once a second. The servers are
// our lean ones (hil-tests/rig/opcualean): node-opcua answers some hundred reads a second, so it would be what is measured.
const (
	uaServers   = 10
	uaDevices   = 10
	uaItems     = 1000
	uaReport    = time.Minute // reportCycle
	uaSettle    = 20 * time.Second
	uaTime      = 30 * time.Second
	uaReadyTime = 3 * time.Minute
)

// opcuaOptions are flags of the OPC UA benchmark.
type opcuaOptions struct{ devices int }

func (u *opcuaOptions) register(fs *flag.FlagSet) {
	fs.IntVar(&u.devices, "devices", uaDevices, "devices on each of the ten servers, with 1,000 items each")
}

// uaPlant is the agent with its devices and the servers behind them.
type uaPlant struct {
	stack   *stack.Stack
	cluster *stack.Cluster
	servers *opcualean.Process
	opt     options
}

// opcuaBench measures monitored items, and polled reads of the same nodes, with the real agent behind the real relay and control plane.
func opcuaBench(ctx context.Context, r *bench.Report, o options) (err error) {
	s, err := stack.Start(ctx, stack.Options{Bin: o.bin, Module: o.module, NoPods: true, Say: o.say})
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, s) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p := &uaPlant{stack: s, opt: o}
	if p.servers, err = opcualean.Start(ctx, self, s.Logs()+"/opcua.log", uaServers); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.servers.Stop()) }()
	for _, start := range []func(context.Context) error{p.servers.Ready, s.StartRelay, s.Join, s.StartAgent} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	if p.cluster, err = s.Cluster(); err != nil {
		return err
	}
	if err := p.create(ctx); err != nil {
		return err
	}
	if err := p.subscribed(ctx, r); err != nil {
		return err
	}
	return p.polled(ctx, r)
}

func uaName(server, device int) string { return fmt.Sprintf("plc-%d-%d", server, device) }

// create makes the plant's objects.
func (p *uaPlant) create(ctx context.Context) error {
	p.opt.say("creating %d devices of %d items", uaServers*p.opt.opcua.devices, uaItems)
	var props []any
	for i := range uaItems {
		props = append(props, map[string]any{"name": "p" + strconv.Itoa(i), "type": "DOUBLE", "accessMode": "ReadOnly"})
	}
	models, devices := p.cluster.Dynamic.Resource(stack.DeviceModels).Namespace(namespace), p.cluster.Dynamic.Resource(stack.Devices).Namespace(namespace)
	model := deviceObject("DeviceModel", "plc", map[string]any{"protocol": "opcua", "properties": props})
	if _, err := models.Create(ctx, model, metav1.CreateOptions{}); err != nil {
		return err
	}
	for server := range uaServers {
		for n := range p.opt.opcua.devices {
			var props []any
			for i := range uaItems {
				props = append(props, map[string]any{
					"name": "p" + strconv.Itoa(i), "reportCycle": uaReport.Milliseconds(), "collectCycle": int64(1000),
					"visitors": map[string]any{"protocolName": "opcua", "configData": map[string]any{"nodeID": fmt.Sprintf("ns=1;i=%d", n*uaItems+i)}},
				})
			}
			d := deviceObject("Device", uaName(server, n), map[string]any{
				"deviceModelRef": map[string]any{"name": "plc"}, "nodeName": p.stack.Node, "properties": props,
				"protocol": map[string]any{"protocolName": "opcua", "configData": map[string]any{"url": "opc.tcp://" + p.servers.Addrs[server]}},
			})
			if err := p.persist(ctx, func() error {
				_, err := devices.Create(ctx, d, metav1.CreateOptions{})
				if apierrors.IsAlreadyExists(err) {
					return nil // an earlier try got through, and its answer did not
				}
				return err
			}); err != nil {
				return fmt.Errorf("create device %s: %w", d.GetName(), err)
			}
		}
	}
	return nil
}

// persist tries again what the API server refuses or does not answer: objects of a thousand items keep it busy, and a run must not end
// because of one of them.
func (p *uaPlant) persist(ctx context.Context, try func() error) error {
	var err error
	for n := range 5 {
		if err = try(); err == nil || ctx.Err() != nil {
			return err
		}
		p.opt.say("the API server says %v; trying again", err)
		if err := sleep(ctx, time.Duration(n+1)*time.Second); err != nil {
			return err
		}
	}
	return err
}

// uaUse is what a stretch of time took.
type uaUse struct {
	published, read, requests, agent, servers float64 // a second; cores
	items                                     int64
	memory                                    process.Memory
}

// observe watches the plant for a time; memory is the greatest that was seen.
func (p *uaPlant) observe(ctx context.Context, d time.Duration) (u uaUse, err error) {
	c0, c1, l, err := underLoad(ctx, p.stack, p.servers.PID(), p.servers.Counters, d)
	if err != nil {
		return u, err
	}
	u.published, u.read, u.requests = float64(c1.Published-c0.Published)/l.seconds, float64(c1.Read-c0.Read)/l.seconds, float64(c1.Requests-c0.Requests)/l.seconds
	u.agent, u.servers, u.memory, u.items = l.agent, l.peer, l.memory, c1.Items
	return u, nil
}

// await watches until enough is seen, or says what is reached.
func (p *uaPlant) await(ctx context.Context, what string, enough func(uaUse) bool) error {
	var u uaUse
	for end := time.Now().Add(uaReadyTime); time.Now().Before(end); {
		var err error
		if u, err = p.observe(ctx, 3*time.Second); err != nil || enough(u) {
			return err
		}
		p.opt.say("%s: %d items, %.0f values/s published, %.0f read, agent %.2f cores, %.0f MB", what, u.items, u.published, u.read, u.agent, float64(u.memory.PSS)/mb)
	}
	p.opt.say("%s: not after %v; what is reached is measured all the same", what, uaReadyTime)
	return nil
}

// subscribed measures all items subscribed.
func (p *uaPlant) subscribed(ctx context.Context, r *bench.Report) error {
	all := float64(uaServers * p.opt.opcua.devices * uaItems)
	if err := p.await(ctx, "all items are published", func(u uaUse) bool { return float64(u.items) >= all && u.published > 0.9*all }); err != nil {
		return err
	}
	p.opt.say("settling for %v, then watching for %v", uaSettle, uaTime)
	if err := sleep(ctx, uaSettle); err != nil {
		return err
	}
	u, err := p.observe(ctx, uaTime)
	if err != nil {
		return err
	}
	r.Add("opcua_items", float64(u.items), "items")
	r.Add("opcua_values_per_s", u.published, "values/s")
	r.Add("opcua_pss_mb", float64(u.memory.PSS)/mb, "MB")
	r.Add("opcua_anonymous_mb", float64(u.memory.Anonymous)/mb, "MB")
	r.Add("opcua_cpu_cores", u.agent, "cores")
	r.Add("opcua_cpu_us_per_value", 1e6*u.agent/u.published, "µs/value")
	r.Add("opcua_polled_beside_per_s", u.read, "values/s")
	return p.cost(r, "opcua_servers", u)
}

// cost adds what the servers took.
func (p *uaPlant) cost(r *bench.Report, name string, u uaUse) error {
	m, err := p.servers.Memory()
	if err != nil {
		return err
	}
	r.Add(name+"_cpu_cores", u.servers, "cores")
	r.Add(name+"_pss_mb", float64(m.PSS)/mb, "MB")
	r.Add(name+"_requests_per_s", u.requests, "requests/s")
	return nil
}

// polled has the same nodes read each second instead.
func (p *uaPlant) polled(ctx context.Context, r *bench.Report) error {
	p.opt.say("the same nodes polled instead of subscribed: the DeviceModel says so for all devices")
	models := p.cluster.Dynamic.Resource(stack.DeviceModels).Namespace(namespace)
	patch := []byte(`{"spec":{"protocolConfigData":{"subscribe":false}}}`) // one object: a device of a thousand items keeps the API server busy for seconds
	if err := p.persist(ctx, func() error {
		_, err := models.Patch(ctx, "plc", types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}); err != nil {
		return fmt.Errorf("change the model: %w", err)
	}
	all := float64(uaServers * p.opt.opcua.devices * uaItems)
	if err := p.await(ctx, "all items are polled", func(u uaUse) bool { return u.items == 0 && u.read > 0.9*all }); err != nil {
		return err
	}
	p.opt.say("settling for %v, then watching for %v", uaSettle, uaTime)
	if err := sleep(ctx, uaSettle); err != nil {
		return err
	}
	u, err := p.observe(ctx, uaTime)
	if err != nil {
		return err
	}
	r.Add("opcua_polled_values_per_s", u.read, "values/s")
	r.Add("opcua_polled_pss_mb", float64(u.memory.PSS)/mb, "MB")
	r.Add("opcua_polled_cpu_us_per_value", 1e6*u.agent/u.read, "µs/value")
	r.Add("opcua_polled_vs_subscribed_cpu_ratio", (u.agent/u.read)/(r.Value("opcua_cpu_us_per_value")/1e6), "times")
	return p.cost(r, "opcua_polled_servers", u)
}
