package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/simulator"
)

// The standard load: what a small gateway is bought for.
const (
	armDevices   = 10 // Modbus TCP, of armPoints each
	armPoints    = 100
	armRTUPoints = 32
)

// The load under which memory gets short: more points than armBudget is for.
const (
	armBudget      = "36Mi"
	armBudgetMB    = 36 << 20 / mb
	greedyPoints   = 1000
	greedyDevices  = 40 // at most
	greedyCycle    = time.Minute
	greedyPatience = 4 * time.Minute
)

// What the agent may take, in MB: of the ARMv7 machine with 128 MB.
const (
	armIdleBudget = 30
	armLoadBudget = 45
	armCeiling    = 70
)

// memoryARM boots whole ARMv7 machines and reads the agent's memory inside them.
func memoryARM(ctx context.Context, r *bench.Report, o options) (err error) {
	parts := map[string]func(context.Context, *bench.Report, *workload) error{"128": armStandard, "256": armIdle, "shed": armShed}
	if only := o.memoryARM.only; only != "" && parts[only] == nil {
		return fmt.Errorf("-only %s: there is no such part; allowed: 128, 256, shed", only)
	}
	s, err := stack.Start(ctx, stack.Options{Bin: o.bin, Module: o.module, Node: "armv7", NoPods: true, Advertise: []string{guestRelay}, Say: o.say})
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, s) }()
	if err := s.StartRelay(ctx); err != nil {
		return err
	}
	w, err := newWorkload(ctx, s, o)
	if err != nil {
		return err
	}
	defer w.close()
	for _, name := range []string{"128", "256", "shed"} {
		if o.memoryARM.only != "" && o.memoryARM.only != name {
			continue
		}
		if err := parts[name](ctx, r, w); err != nil {
			return fmt.Errorf("part %s: %w", name, err)
		}
	}
	return armBudgets(r)
}

// armBudgets is an error if a figure is over its budget.
func armBudgets(r *bench.Report) error {
	var errs []error
	for name, most := range map[string]float64{
		"skerryd_armv7_idle_pss_mb": armIdleBudget, "skerryd_armv7_load_pss_mb": armLoadBudget, "skerryd_armv7_256_idle_pss_mb": armIdleBudget,
		"skerryd_armv7_load_most_pss_mb": armCeiling, "skerryd_armv7_shed_most_pss_mb": armBudgetMB,
	} {
		if v := r.Value(name); v > most {
			errs = append(errs, fmt.Errorf("%s is %.1f MB: %.1f MB are allowed", name, v, most))
		}
	}
	return errors.Join(errs...)
}

// armStandard is the agent in a machine with 128 MB: idle, and with the standard load.
func armStandard(ctx context.Context, r *bench.Report, w *workload) (err error) {
	g, err := bootGuest(ctx, w, guestOptions{memoryMiB: 128})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	line, err := g.settled(ctx)
	if err != nil {
		return err
	}
	r.Add("skerryd_armv7_idle_pss_mb", line.pss, "MB")
	r.Add("skerryd_armv7_idle_rss_mb", line.rss, "MB")
	r.Add("armv7_mem_total_mb", line.total, "MB")
	r.Add("armv7_mem_available_mb", line.available, "MB")

	w.opt.say("%d Modbus points on TCP and %d on USB-serial at 1 s", armDevices*armPoints, armRTUPoints)
	for i := range armDevices {
		if err := w.createModbus(ctx, "tcp-"+strconv.Itoa(i), w.guestTCP(), time.Second, armPoints); err != nil {
			return err
		}
	}
	if err := w.createModbus(ctx, "line", map[string]any{"serialPort": guestLinePort, "baudRate": int64(115200), "slaveID": int64(1)}, time.Second, armRTUPoints); err != nil {
		return err
	}
	want := armDevices*armPoints + armRTUPoints
	if _, err := g.wait(ctx, fmt.Sprintf("good=%d", want), func(l guestLine) bool { return l.good == want }); err != nil {
		return err
	}
	if line, err = g.settled(ctx); err != nil {
		return err
	}
	if line.good < want*9/10 { // of a value that is older than it should be at this moment nobody needs to know here
		return fmt.Errorf("%d of %d values were good when the memory was read: the machine does not carry the load", line.good, want)
	}
	r.Add("skerryd_armv7_load_pss_mb", line.pss, "MB")
	r.Add("skerryd_armv7_load_rss_mb", line.rss, "MB")
	r.Add("skerryd_armv7_load_most_pss_mb", g.most, "MB")
	r.Add("armv7_load_mem_available_mb", line.available, "MB")
	return w.removeDevices(ctx)
}

// armIdle is the idle agent in a machine with 256 MB.
func armIdle(ctx context.Context, r *bench.Report, w *workload) (err error) {
	g, err := bootGuest(ctx, w, guestOptions{memoryMiB: 256})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	line, err := g.settled(ctx)
	if err != nil {
		return err
	}
	r.Add("skerryd_armv7_256_idle_pss_mb", line.pss, "MB")
	r.Add("armv7_256_mem_available_mb", line.available, "MB")
	return nil
}

// armShed gives an agent with a small budget more points than that is for, and watches it do without something rather than grow.
func armShed(ctx context.Context, r *bench.Report, w *workload) (err error) {
	g, err := bootGuest(ctx, w, guestOptions{memoryMiB: 128, budget: armBudget})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	devices, begun := 0, time.Now()
	for ; devices < greedyDevices; devices++ {
		reason, err := w.nodeShed(ctx)
		if err != nil {
			return err
		}
		if reason != "" {
			break
		}
		if err := w.createModbus(ctx, "greedy-"+strconv.Itoa(devices), w.guestTCP(), greedyCycle, greedyPoints); err != nil {
			return err
		}
		seen := (devices + 1) // the machine is slow: each device is to be there before the next comes
		if _, err := g.wait(ctx, fmt.Sprintf("device %d", seen), func(l guestLine) bool { return l.devices >= seen }); err != nil {
			return err
		}
	}
	w.opt.say("%d devices of %d points: waiting for the condition", devices, greedyPoints)
	reason := ""
	for reason == "" {
		if reason, err = w.nodeShed(ctx); err != nil {
			return err
		}
		if time.Since(begun) > greedyPatience*2 {
			return fmt.Errorf("with %d points the node has no condition %s; the agent takes %.1f MB", devices*greedyPoints, shedCondition, g.last.pss)
		}
		if _, err := g.wait(ctx, "another report", func(guestLine) bool { return true }); err != nil {
			return err
		}
	}
	w.opt.say("the node says that it sheds %s", reason)
	if _, err := g.settled(ctx); err != nil { // the agent lives on
		return err
	}
	r.Add("skerryd_armv7_shed_points", float64(devices*greedyPoints), "points")
	r.Add("skerryd_armv7_shed_most_pss_mb", g.most, "MB")
	return w.removeDevices(ctx)
}

const shedCondition = "SkerryMemoryShed"

// nodeShed returns what the node says that it sheds, "" for nothing.
func (w *workload) nodeShed(ctx context.Context) (string, error) {
	n, err := w.cluster.Core.CoreV1().Nodes().Get(ctx, w.stack.Node, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	for _, c := range n.Status.Conditions {
		if c.Type == shedCondition && c.Status == corev1.ConditionTrue {
			return c.Reason, nil
		}
	}
	return "", nil
}

func (w *workload) removeDevices(ctx context.Context) error {
	return errors.Join(
		w.cluster.Dynamic.Resource(stack.Devices).Namespace(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		w.cluster.Dynamic.Resource(stack.DeviceModels).Namespace(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
	)
}

// guestTCP is how the machine reaches the Modbus peer.
func (w *workload) guestTCP() map[string]any {
	_, port, _ := net.SplitHostPort(w.modbus.Addr())
	number, _ := strconv.ParseInt(port, 10, 64) // of an address that is in use
	return map[string]any{"ip": guestModbus, "port": number, "slaveID": int64(1)}
}

// lineUnit is the device on the serial line, of holding registers that stay as they are.
func lineUnit(path string) *simulator.Config {
	u := simulator.Unit{ID: 1, Name: "line"}
	for i := range armRTUPoints {
		u.Points = append(u.Points, simulator.Point{Name: "p" + strconv.Itoa(i), Table: "holding", Address: i, Type: "uint16", Signal: "constant", Value: float64(i)})
	}
	return &simulator.Config{Modbus: []simulator.Modbus{{Line: path, Units: []simulator.Unit{u}}}}
}
