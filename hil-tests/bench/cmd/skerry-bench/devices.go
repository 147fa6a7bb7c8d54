package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// What the figures are about: devices that tell of each change by themselves, one TCP connection each, as behind serial servers.
const (
	tellers     = 100
	floodRate   = 10_000 // changes a second, of all together
	floodTime   = 20 * time.Second
	visibleRate = 100 // changes a second, of all together
	visibleTime = 30 * time.Second
	tellerModel = "teller"

	polledTellers = 20 // that are asked
	polledCycle   = 100 * time.Millisecond
	polledRate    = 20 // changes a second, of all together
)

// teller is a device that says "v=N\n" whenever its value changes, or, with a cycle, when it is asked.
type teller struct {
	name  string
	cycle time.Duration // 0: it tells by itself
	ln    net.Listener

	mu   sync.Mutex
	conn net.Conn
	last int
}

func newTeller(ctx context.Context, name string, cycle time.Duration) (*teller, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for device %s: %w", name, err)
	}
	return &teller{name: name, cycle: cycle, ln: ln}, nil
}

// serve takes the agent's connections, the newest in place of the one before, until the listener is closed.
func (t *teller) serve() {
	var asked sync.WaitGroup
	defer asked.Wait()
	for {
		conn, err := t.ln.Accept()
		if err != nil {
			return
		}
		t.mu.Lock()
		if t.conn != nil {
			_ = t.conn.Close()
		}
		t.conn = conn
		t.mu.Unlock()
		if t.cycle > 0 {
			asked.Go(func() { t.answer(conn) })
		}
	}
}

// answer replies to requests of one byte until the connection ends.
func (t *teller) answer(conn net.Conn) {
	var request [1]byte
	for {
		if _, err := conn.Read(request[:]); err != nil {
			return
		}
		t.mu.Lock()
		err := t.send(conn)
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *teller) close() {
	_ = t.ln.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		_ = t.conn.Close()
	}
}

// say tells of a value. It blocks while the agent does not take what was said before.
func (t *teller) say(value int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return fmt.Errorf("device %s: nobody listens", t.name)
	}
	t.last = value
	if t.cycle > 0 {
		return nil // until it is asked
	}
	return t.send(t.conn)
}

// send writes the present value. t.mu is held.
func (t *teller) send(conn net.Conn) error {
	if err := conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return fmt.Errorf("device %s: %w", t.name, err)
	}
	if _, err := conn.Write(append(strconv.AppendInt([]byte("v="), int64(t.last), 10), '\n')); err != nil {
		return fmt.Errorf("device %s: %w", t.name, err)
	}
	return nil
}

// tellerWorld is the tellers with the agent and the cluster that they are connected to.
type tellerWorld struct {
	stack   *stack.Stack
	cluster *stack.Cluster
	opt     options
	devices []*teller
	served  sync.WaitGroup
}

func deviceBench(ctx context.Context, r *bench.Report, o options) (err error) {
	s, err := stack.Start(ctx, stack.Options{Bin: o.bin, Module: o.module, Say: o.say, NoPods: true})
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, s) }()
	for _, start := range []func(context.Context) error{s.StartRelay, s.Join, s.StartAgent} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	w := &tellerWorld{stack: s, opt: o}
	if w.cluster, err = s.Cluster(); err != nil {
		return err
	}
	defer func() {
		for _, t := range w.devices {
			t.close()
		}
		w.served.Wait()
	}()
	model := tellerObject("DeviceModel", tellerModel, map[string]any{"protocol": "serial", "properties": []any{map[string]any{"name": "v", "type": "INT", "accessMode": "ReadOnly"}}})
	if _, err := w.cluster.Dynamic.Resource(stack.DeviceModels).Namespace(namespace).Create(ctx, model, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create the model: %w", err)
	}
	if err := w.add(ctx, "teller", tellers, 0); err != nil {
		return err
	}
	for _, part := range []func(context.Context, *bench.Report) error{w.visible, w.flood, w.polled} {
		if err := part(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func tellerObject(kind, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": namespace}, "spec": spec,
	}}
}

// add makes n devices and waits until a first value of each is visible.
func (w *tellerWorld) add(ctx context.Context, name string, n int, cycle time.Duration) error {
	w.opt.say("%d devices", n)
	config := func(port int) map[string]any {
		c := map[string]any{"ip": "127.0.0.1", "port": int64(port), "delimiter": `\n`}
		if cycle > 0 {
			c["request"] = "?"
		}
		return c
	}
	for i := range n {
		t, err := newTeller(ctx, fmt.Sprintf("%s-%d", name, i), cycle)
		if err != nil {
			return err
		}
		w.devices = append(w.devices, t)
		w.served.Go(t.serve)
		d := tellerObject("Device", t.name, map[string]any{
			"deviceModelRef": map[string]any{"name": tellerModel}, "nodeName": w.stack.Node,
			"protocol": map[string]any{"protocolName": "serial", "configData": config(t.ln.Addr().(*net.TCPAddr).Port)},
			"properties": []any{map[string]any{
				"name": "v", "reportToCloud": true, "collectCycle": cmp.Or(cycle, time.Second).Milliseconds(),
				"visitors": map[string]any{"protocolName": "serial", "configData": map[string]any{"pattern": "v=([0-9]+)"}},
			}},
		})
		if _, err := w.cluster.Dynamic.Resource(stack.Devices).Namespace(namespace).Create(ctx, d, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create device %s: %w", t.name, err)
		}
	}
	if err := until(ctx, "all devices are connected", func(context.Context) error {
		for _, t := range w.devices {
			if err := t.say(max(1, t.last)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return w.settled(ctx)
}

// settled waits until the newest value of each device is in the API.
func (w *tellerWorld) settled(ctx context.Context) error {
	return until(ctx, "the newest value of each device is visible", func(ctx context.Context) error {
		states, err := w.cluster.DeviceStates(ctx, namespace)
		if err != nil {
			return err
		}
		seen := make(map[string]string, len(states))
		for _, s := range states {
			seen[s.Name] = s.Value("v").Value
		}
		for _, t := range w.devices {
			t.mu.Lock()
			want := strconv.Itoa(t.last)
			t.mu.Unlock()
			if seen[t.name] != want {
				return fmt.Errorf("device %s is at %s, the API says %q", t.name, want, seen[t.name])
			}
		}
		return nil
	})
}

// flood measures how many changes a second the agent takes, and holds that the newest value of each device is in the API afterwards. What
// waits in the sockets' buffers would show in the time until then.
func (w *tellerWorld) flood(ctx context.Context, r *bench.Report) error {
	w.opt.say("%d changes a second for %v", floodRate, floodTime)
	began := time.Now()
	cpu0, err := process.ReadCPU(w.stack.Agent.PID())
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(w.devices))
	each := floodRate / len(w.devices)
	for n, t := range w.devices {
		wg.Go(func() {
			for i := range int(floodTime.Seconds()) * each {
				// Not in step with the others, and as fast as the agent allows if it falls behind.
				due := began.Add(time.Duration(i)*time.Second/time.Duration(each) + time.Duration(n)*time.Millisecond/10)
				if err := sleep(ctx, time.Until(due)); err != nil {
					errs[n] = err
					return
				}
				if errs[n] = t.say(1_000_000 + i*len(w.devices) + n); errs[n] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	cpu1, err := process.ReadCPU(w.stack.Agent.PID())
	if err != nil {
		return err
	}
	ended := time.Now()
	if err := w.settled(ctx); err != nil {
		return err
	}
	r.Add("device_changes_per_s", float64(len(w.devices)*each)*floodTime.Seconds()/took.Seconds(), "changes/s")
	r.Add("device_flood_newest_visible_ms", time.Since(ended).Seconds()*1e3, "ms")
	r.Add("device_flood_agent_cores", (cpu1-cpu0).Seconds()/took.Seconds(), "cores")
	return nil
}
