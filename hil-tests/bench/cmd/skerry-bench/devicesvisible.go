package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// The floor: an object like those that the relay writes, written by this process in the same run.
const (
	floorName  = "floor"
	floorEvery = 250 * time.Millisecond
)

// sightings is when values were said, and how long it took until a watcher of all DeviceStatus objects saw them.
type sightings struct {
	mu    sync.Mutex
	said  map[string]time.Time // NAME=VALUE
	total []float64            // ms: from the change at the device until it is seen
	agent []float64            // ms, of which until the agent had the value, by the timestamp that it gave it
	floor []float64            // ms: from a write of this process until it is seen
}

func (s *sightings) say(name string, value int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said[fmt.Sprintf("%s=%d", name, value)] = time.Now()
}

func (s *sightings) saw(u *unstructured.Unstructured, now time.Time) {
	v := stack.ReadDeviceState(u).Value("v")
	key := u.GetName() + "=" + v.Value
	s.mu.Lock()
	defer s.mu.Unlock()
	at, waiting := s.said[key]
	if !waiting {
		return
	}
	delete(s.said, key)
	took := now.Sub(at).Seconds() * 1e3
	if u.GetName() == floorName {
		s.floor = append(s.floor, took)
		return
	}
	s.total = append(s.total, took)
	s.agent = append(s.agent, max(0, v.At.Sub(at).Seconds()*1e3)) // the timestamp has whole milliseconds
}

func (s *sightings) seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.total)
}

// visible measures change → seen by a watcher of all DeviceStatus objects. Included is all that happens between the device's bytes on its
// connection and the event in the watcher's hands; the devices tell of changes by themselves, so there is no wait for a poll.
func (w *tellerWorld) visible(ctx context.Context, r *bench.Report) error {
	w.opt.say("%d changes a second for %v", visibleRate, visibleTime)
	s := &sightings{said: make(map[string]time.Time)}
	total := int(visibleTime.Seconds() * visibleRate)
	before, err := w.costs(ctx)
	if err != nil {
		return err
	}
	beside, stop := context.WithCancel(ctx)
	defer stop()
	var (
		wg      sync.WaitGroup
		floor   error
		deepest float64
		after   costs
	)
	wg.Go(func() { floor = w.writeFloor(beside, s) })
	wg.Go(func() {
		for sleep(beside, floorEvery) == nil {
			if n, err := stack.Metric(beside, w.stack.RelayWeb, "skerry_relay_write_queue_depth"); err == nil {
				deepest = max(deepest, n)
			}
		}
	})
	err = w.observe(ctx, s, total, func(ctx context.Context) error {
		defer stop()
		if err := w.tell(ctx, s, w.devices, total, visibleRate); err != nil {
			return err
		}
		var err error
		after, err = w.costs(ctx)
		return err
	})
	stop()
	wg.Wait()
	if err = errors.Join(err, floor); err != nil {
		return err
	}
	w.report(r, s, total, deepest, before, after)
	return nil
}

// polled measures the same for devices that are asked. A change waits for the next cycle: that part is a figure of its own.
func (w *tellerWorld) polled(ctx context.Context, r *bench.Report) error {
	w.opt.say("%d changes a second for %v, of devices that are asked every %v", polledRate, visibleTime, polledCycle)
	first := len(w.devices)
	if err := w.add(ctx, "asked", polledTellers, polledCycle); err != nil {
		return err
	}
	s := &sightings{said: make(map[string]time.Time)}
	total := int(visibleTime.Seconds() * polledRate)
	if err := w.observe(ctx, s, total, func(ctx context.Context) error {
		return w.tell(ctx, s, w.devices[first:], total, polledRate)
	}); err != nil {
		return err
	}
	rest := make([]float64, len(s.total))
	for i := range rest {
		rest[i] = s.total[i] - s.agent[i]
	}
	r.Add("device_polled_seen_pct", 100*float64(len(s.total))/float64(total), "%")
	addSpread(r, "device_polled", "p99", 0.99, s.total)
	addSpread(r, "device_polled_until_agent", "p99", 0.99, s.agent)
	addSpread(r, "device_polled_rest", "p99", 0.99, rest)
	return nil
}

// observe watches while tell has devices change, until all changes were seen, or 10 s after the last: one that a newer one took the
// place of is never seen.
func (w *tellerWorld) observe(ctx context.Context, s *sightings, total int, tell func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, visibleTime+2*time.Minute)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	changes, err := w.cluster.Dynamic.Resource(stack.DeviceStatuses).Namespace(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer changes.Stop()
	told := make(chan error, 1)
	wg.Go(func() { told <- tell(ctx) })
	var over <-chan time.Time
	for told != nil || s.seen() < total {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return nil
		case err := <-told:
			if told = nil; err != nil {
				return err
			}
			over = time.After(10 * time.Second)
		case e, ok := <-changes.ResultChan():
			if !ok {
				return errors.New("the watch of device statuses ended")
			}
			if u, isObject := e.Object.(*unstructured.Unstructured); isObject && e.Type != watch.Deleted {
				s.saw(u, time.Now())
			}
		}
	}
	return nil
}

func (w *tellerWorld) report(r *bench.Report, s *sightings, total int, deepest float64, before, after costs) {
	w.opt.say("load averages: %s", bench.Load())
	r.Add("device_visible_seen_pct", 100*float64(len(s.total))/float64(total), "%")
	addSpread(r, "device_visible", "p99", 0.99, s.total)
	addSpread(r, "device_visible_until_agent", "p99", 0.99, s.agent)
	addSpread(r, "device_visible_floor", "p99", 0.99, s.floor)
	r.Add("device_visible_vs_floor_ratio", bench.Median(s.total)/bench.Median(s.floor), "")
	r.Add("device_writes_per_change", (after.writes-before.writes)/float64(total), "writes")
	r.Add("device_writes_waiting_most", deepest, "reports")
	each := func(name string, a, b time.Duration) {
		r.Add("device_cpu_ms_per_change_"+name, (b-a).Seconds()*1e3/float64(total), "ms")
	}
	each("agent", before.agent, after.agent)
	each("relay", before.relay, after.relay)
	each("control_plane", before.kube, after.kube)
}

// tell has devices change, one after the other.
func (w *tellerWorld) tell(ctx context.Context, s *sightings, devices []*teller, total, rate int) error {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range total {
		t := devices[i%len(devices)]
		s.say(t.name, 1000+i)
		if err := t.say(1000 + i); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// writeFloor writes an object of its own until ctx ends.
func (w *tellerWorld) writeFloor(ctx context.Context, s *sightings) error {
	c := w.cluster.Dynamic.Resource(stack.DeviceStatuses).Namespace(namespace)
	status := func(i int) map[string]any {
		return map[string]any{"state": "online", "extensions": map[string]any{"summary": fmt.Sprintf("v=%d", i)}, "twins": []any{map[string]any{
			"propertyName": "v", "reported": map[string]any{"value": fmt.Sprint(i), "metadata": map[string]any{"type": "INT", "quality": "good", "timestamp": "0"}},
		}}}
	}
	obj, err := c.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceStatus", "metadata": map[string]any{"name": floorName, "namespace": namespace},
		"spec": map[string]any{}, "status": status(0),
	}}, metav1.CreateOptions{})
	for i := 1; err == nil; i++ {
		if sleep(ctx, floorEvery) != nil {
			return nil
		}
		var b []byte
		if b, err = json.Marshal(map[string]any{"metadata": map[string]any{
			"resourceVersion": obj.GetResourceVersion(), "annotations": map[string]any{"skerry.dev/report": strings.Repeat("0", 32)}, "managedFields": []any{map[string]any{}},
		}, "status": status(i)}); err != nil {
			break
		}
		s.say(floorName, i)
		obj, err = c.Patch(ctx, floorName, types.MergePatchType, b, metav1.PatchOptions{})
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("write the object of the floor: %w", err)
}

// costs is what has been spent.
type costs struct {
	agent, relay, kube time.Duration // processor time
	writes             float64       // of reports, by the relay
}

func (w *tellerWorld) costs(ctx context.Context) (c costs, err error) {
	for _, p := range []struct {
		to  *time.Duration
		pid int
	}{{&c.agent, w.stack.Agent.PID()}, {&c.relay, w.stack.Relay.PID()}, {&c.kube, w.stack.Kube.Process().PID()}} {
		if *p.to, err = process.ReadCPU(p.pid); err != nil {
			return c, err
		}
	}
	c.writes, err = stack.Metric(ctx, w.stack.RelayWeb, "skerry_relay_report_writes_total")
	return c, err
}
