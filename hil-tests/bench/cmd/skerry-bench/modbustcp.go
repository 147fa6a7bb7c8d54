package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/modbusslave"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// The plant: 10 servers with 10 units each, 1,020 float32 values in each unit, every one read each second; a tenth of them has another
// value each second. Beside them are 100 setpoints behind the first server.
const (
	tcpServers  = 10
	tcpUnits    = 10
	tcpPoints   = 1020 // 102,000 a second, so that a cycle that is late does not make it less than 100,000
	tcpChange   = 0.1
	tcpReport   = time.Minute // reportCycle
	tcpMemory   = "76Mi"      // memory.limit; its default is for gateways with a tenth of these points
	tcpSettle   = 15 * time.Second
	tcpTime     = 30 * time.Second
	tcpBaseline = 20 * time.Second

	setpoints    = 100
	setpointUnit = 20
	writeRounds  = 100
	writeEvery   = 400 * time.Millisecond
	writeTime    = 90 * time.Second // at most, on a machine that has much else to do
)

// plant is the agent with its devices and the slave behind them.
type plant struct {
	stack   *stack.Stack
	cluster *stack.Cluster
	slave   *modbusslave.Process
	opt     options
}

func modbusTCP(ctx context.Context, r *bench.Report, o options) (err error) {
	s, err := stack.Start(ctx, stack.Options{Bin: o.bin, Module: o.module, NoPods: true, Say: o.say})
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, s) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p := &plant{stack: s, opt: o}
	if p.slave, err = modbusslave.Start(ctx, self, s.Logs()+"/slave.log", tcpServers, modbusslave.Options{Change: tcpChange, Changing: 2 * tcpPoints}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.slave.Stop()) }()
	configure := func(context.Context) error {
		return s.WriteAgentConfig(func(doc map[string]any) { doc["memory"] = map[string]any{"limit": tcpMemory} })
	}
	for _, start := range []func(context.Context) error{p.slave.Ready, s.StartRelay, s.Join, configure, s.StartAgent} {
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
	for _, part := range []func(context.Context, *bench.Report) error{p.polling, p.writing, p.baseline} {
		if err := part(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func deviceObject(kind, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": namespace}, "spec": spec,
	}}
}

// create makes the plant's objects.
func (p *plant) create(ctx context.Context) error {
	p.opt.say("creating %d devices of %d points, and one of %d setpoints", tcpServers*tcpUnits, tcpPoints, setpoints)
	models, devices := p.cluster.Dynamic.Resource(stack.DeviceModels).Namespace(namespace), p.cluster.Dynamic.Resource(stack.Devices).Namespace(namespace)
	model := func(name, access string, n int) error {
		var props []any
		for i := range n {
			props = append(props, map[string]any{"name": "p" + strconv.Itoa(i), "type": "FLOAT", "accessMode": access})
		}
		_, err := models.Create(ctx, deviceObject("DeviceModel", name, map[string]any{"protocol": "modbus", "properties": props}), metav1.CreateOptions{})
		return err
	}
	if err := errors.Join(model("meter", "ReadOnly", tcpPoints), model("setpoints", "ReadWrite", setpoints)); err != nil {
		return err
	}
	device := func(name, model string, server, unit, n int, more map[string]any) error {
		host, port, err := net.SplitHostPort(p.slave.Addrs[server])
		if err != nil {
			return err
		}
		number, err := strconv.ParseInt(port, 10, 64)
		if err != nil {
			return err
		}
		var props []any
		for i := range n {
			prop := map[string]any{
				"name": "p" + strconv.Itoa(i), "reportCycle": tcpReport.Milliseconds(),
				"visitors": map[string]any{"protocolName": "modbus", "configData": map[string]any{"register": "holding", "offset": int64(2 * i), "type": "float32"}},
			}
			for k, v := range more {
				prop[k] = v
			}
			props = append(props, prop)
		}
		_, err = devices.Create(ctx, deviceObject("Device", name, map[string]any{
			"deviceModelRef": map[string]any{"name": model}, "nodeName": p.stack.Node,
			"protocol":   map[string]any{"protocolName": "modbus", "configData": map[string]any{"ip": host, "port": number, "slaveID": int64(unit)}},
			"properties": props,
		}), metav1.CreateOptions{})
		return err
	}
	for server := range tcpServers {
		for unit := range tcpUnits {
			if err := device(meterName(server, unit), "meter", server, unit+1, tcpPoints, nil); err != nil {
				return err
			}
		}
	}
	return device("setpoints", "setpoints", 0, setpointUnit, setpoints, map[string]any{"desired": map[string]any{"value": "0"}})
}

func meterName(server, unit int) string { return fmt.Sprintf("meter-%d-%d", server, unit) }

// use is what a stretch of polling took.
type use struct {
	points, agent, slave float64 // points a second; cores
	memory               process.Memory
}

// observe watches the plant for a time; memory is the greatest that was seen.
func (p *plant) observe(ctx context.Context, d time.Duration) (u use, err error) {
	c0, c1, l, err := underLoad(ctx, p.stack, p.slave.PID(), p.slave.Counters, d)
	if err != nil {
		return u, err
	}
	u.points, u.agent, u.slave, u.memory = float64(c1.Read-c0.Read)/2/l.seconds, l.agent, l.peer, l.memory
	return u, nil
}

// polling waits until the whole plant is polled, and measures what that takes.
func (p *plant) polling(ctx context.Context, r *bench.Report) error {
	const all = tcpServers * tcpUnits * tcpPoints
	if err := until(ctx, "the whole plant is polled", func(ctx context.Context) error {
		u, err := p.observe(ctx, 2*time.Second)
		if err == nil && u.points < 0.9*all {
			err = fmt.Errorf("%.0f of %d points a second", u.points, all)
		}
		return err
	}); err != nil {
		p.opt.say("%v; what is reached is measured all the same", err)
	}
	p.opt.say("settling for %v, then polling for %v", tcpSettle, tcpTime)
	if err := sleep(ctx, tcpSettle); err != nil {
		return err
	}
	u, err := p.observe(ctx, tcpTime)
	if err != nil {
		return err
	}
	r.Add("tcp_points_per_s", u.points, "points/s")
	r.Add("tcp_pss_mb", float64(u.memory.PSS)/mb, "MB")
	r.Add("tcp_anonymous_mb", float64(u.memory.Anonymous)/mb, "MB")
	r.Add("tcp_cpu_cores", u.agent, "cores")
	r.Add("tcp_cpu_us_per_point", 1e6*u.agent/u.points, "µs/point")
	r.Add("tcp_slave_cpu_cores", u.slave, "cores")
	return nil
}

// baseline has the same plant polled with one request for each point.
func (p *plant) baseline(ctx context.Context, r *bench.Report) error {
	p.opt.say("the same with one request for each point, for %v", tcpBaseline)
	models := p.cluster.Dynamic.Resource(stack.DeviceModels).Namespace(namespace)
	patch := []byte(`{"spec":{"protocolConfigData":{"onePerRequest":true}}}`) // one object: a device of a thousand points keeps the API server busy for seconds
	if _, err := models.Patch(ctx, "meter", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("change the model: %w", err)
	}
	if err := sleep(ctx, 10*time.Second); err != nil {
		return err
	}
	u, err := p.observe(ctx, tcpBaseline)
	if err != nil {
		return err
	}
	planned := r.Value("tcp_points_per_s")
	r.Add("tcp_one_request_points_per_s", u.points, "points/s")
	r.Add("tcp_one_request_cpu_us_per_point", 1e6*u.agent/u.points, "µs/point")
	r.Add("tcp_points_vs_one_request_ratio", planned/u.points, "times")
	return nil
}

// writing sets all setpoints at once, again and again, and measures from the watch event that every watcher of the API gets, the relay as
// this process, to the last byte of the last write.
func (p *plant) writing(ctx context.Context, r *bench.Report) error {
	p.opt.say("%d times %d setpoints under that load", writeRounds, setpoints)
	w, err := p.cluster.Dynamic.Resource(stack.Devices).Namespace(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=setpoints"})
	if err != nil {
		return err
	}
	defer w.Stop()
	events := stamp(w)
	if _, err := p.slave.TakeWrites(ctx); err != nil {
		return err
	}
	var event, patch, api []float64
	began := time.Now()
	for round := 0; round < writeRounds && time.Since(began) < writeTime; round++ {
		e, q, err := p.write(ctx, events, round+1)
		if err != nil {
			return err
		}
		event, patch, api = append(event, e.Seconds()*1e3), append(patch, q.Seconds()*1e3), append(api, (q-e).Seconds()*1e3)
		if err := sleep(ctx, writeEvery); err != nil {
			return err
		}
	}
	r.Add("write_100_rounds", float64(len(event)), "rounds")
	r.Add("write_100_median_ms", bench.Median(event), "ms")
	r.Add("write_100_p99_ms", bench.Quantile(event, 0.99), "ms")
	r.Add("write_100_from_request_p99_ms", bench.Quantile(patch, 0.99), "ms")
	r.Add("write_100_api_median_ms", bench.Median(api), "ms")
	r.Add("write_100_api_p99_ms", bench.Quantile(api, 0.99), "ms")
	return nil
}

// write sets all setpoints to a value. It returns how long it took from the watch event, and from the request, to the last byte.
func (p *plant) write(ctx context.Context, events <-chan stamped, value int) (fromEvent, fromRequest time.Duration, err error) {
	type op struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value string `json:"value"`
	}
	var ops []op
	for i := range setpoints {
		ops = append(ops, op{"replace", fmt.Sprintf("/spec/properties/%d/desired/value", i), strconv.Itoa(value)})
	}
	body, err := json.Marshal(ops)
	if err != nil {
		return 0, 0, err
	}
	request := time.Now()
	done, err := p.cluster.Dynamic.Resource(stack.Devices).Namespace(namespace).Patch(ctx, "setpoints", types.JSONPatchType, body, metav1.PatchOptions{})
	if err != nil {
		return 0, 0, err
	}
	event := time.Now() // the answer to the request and the watch event are on their way at the same time: the earlier one counts
	if seen, err := awaitGeneration(ctx, events, done.GetGeneration()); err != nil {
		return 0, 0, err
	} else if seen.Before(event) {
		event = seen
	}
	var last time.Time
	for n, end := 0, time.Now().Add(20*time.Second); n < setpoints; {
		if time.Now().After(end) {
			return 0, 0, fmt.Errorf("%d of %d setpoints were written within 20 s", n, setpoints)
		}
		writes, err := p.slave.TakeWrites(ctx)
		if err != nil {
			return 0, 0, err
		}
		for _, x := range writes {
			if x.Unit == setpointUnit {
				n += int(x.Quantity) / 2
				last = x.At
			}
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
	return last.Sub(event), last.Sub(request), nil
}

// stamped is a generation of the setpoints' Device and when the watch showed it.
type stamped struct {
	generation int64
	at         time.Time
}

// stamp notes when events come, which may be before the answer to the request that caused them. It ends with the watch.
func stamp(w watch.Interface) <-chan stamped {
	out := make(chan stamped, 1000)
	go func() {
		defer close(out)
		for e := range w.ResultChan() {
			now := time.Now()
			if u, ok := e.Object.(*unstructured.Unstructured); ok {
				out <- stamped{u.GetGeneration(), now}
			}
		}
	}()
	return out
}

// awaitGeneration returns when the watch showed a generation.
func awaitGeneration(ctx context.Context, events <-chan stamped, generation int64) (time.Time, error) {
	for {
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case e, ok := <-events:
			if !ok {
				return time.Time{}, errors.New("the watch of devices ended")
			}
			if e.generation >= generation {
				return e.at, nil
			}
		}
	}
}
