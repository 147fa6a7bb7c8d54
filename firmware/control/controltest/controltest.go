// Package controltest has a host of devices that exists in memory only, for tests of the control service and of its commands.
//
// # Usage
//
//	h := controltest.New()          // devices default/meter (good values, writable) and plant/valve (does not answer)
//	socket := controltest.Serve(t, h, drivers...)
//
// # Concurrency
//
// A Host is safe for concurrent use.
package controltest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/control"
	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/mappers/device"
)

// Host is the fake.
type Host struct {
	mu       sync.Mutex
	devices  []devices.DeviceState
	watchers map[int]func(namespace, name, property string, v device.Value)
	next     int
	Browsed  int // calls of Browse
}

// New returns a host with two devices.
func New() *Host {
	return &Host{watchers: map[int]func(string, string, string, device.Value){}, devices: []devices.DeviceState{
		{Namespace: "default", Name: "meter", Protocol: "modbus", State: "online", Ready: true, LastOnline: time.Now(), Properties: []devices.PropertyState{
			{Name: "power", Value: "230.5", Unit: "W", Quality: device.Good, At: time.Now()},
			{Name: "setpoint", Value: "21", Quality: device.Good, At: time.Now(), Desired: "21", Outcome: "verified"},
		}},
		{Namespace: "plant", Name: "valve", Protocol: "modbus", State: "offline", Reason: "Unreachable", Message: "10.0.0.9:502 did not answer", Properties: []devices.PropertyState{
			{Name: "open", Quality: device.Bad, Reason: "10.0.0.9:502 did not answer"},
		}},
	}}
}

// Add adds a device.
func (h *Host) Add(d devices.DeviceState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.devices = append(h.devices, d)
}

// Remove takes a device away.
func (h *Host) Remove(namespace, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.devices = slices.DeleteFunc(h.devices, func(d devices.DeviceState) bool { return d.Namespace == namespace && d.Name == name })
}

// Has implements control.Devices.
func (h *Host) Has(namespace, name string) bool {
	return slices.ContainsFunc(h.Status(), func(d devices.DeviceState) bool { return d.Namespace == namespace && d.Name == name })
}

// Status implements control.Devices.
func (h *Host) Status() []devices.DeviceState {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := slices.Clone(h.devices)
	for i := range out {
		out[i].Properties = slices.Clone(out[i].Properties)
	}
	return out
}

// Read implements control.Devices: a device that is offline fails as a whole.
func (h *Host) Read(_ context.Context, namespace, name string, properties []string) (out []devices.PropertyState, err error) {
	for _, d := range h.Status() {
		if d.Namespace != namespace || d.Name != name {
			continue
		}
		if d.State == "offline" {
			err = fmt.Errorf("%w: %s", device.ErrUnreachable, d.Message)
		}
		for _, p := range d.Properties {
			if len(properties) == 0 || slices.Contains(properties, p.Name) {
				out = append(out, p)
			}
		}
	}
	return out, err
}

// Write implements control.Devices: numbers are shown, 99 is shown as 98, others are refused.
func (h *Host) Write(_ context.Context, namespace, name, property, text string) (device.WriteResult, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return device.WriteResult{}, fmt.Errorf("%q is not a FLOAT (a finite number)", text)
	}
	if n == 99 {
		return device.WriteResult{Err: device.ErrNotVerified, Readback: device.Float(98)}, nil
	}
	h.mu.Lock()
	for i := range h.devices {
		for k := range h.devices[i].Properties {
			if p := &h.devices[i].Properties[k]; h.devices[i].Name == name && p.Name == property {
				p.Value = text
			}
		}
	}
	h.mu.Unlock()
	h.Change(namespace, name, property, device.Float(n))
	return device.WriteResult{Verified: true, Readback: device.Float(n)}, nil
}

// Change tells those who watch.
func (h *Host) Change(namespace, name, property string, v device.Value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, fn := range h.watchers {
		fn(namespace, name, property, v.At(time.Now()))
	}
}

// Watchers is how many watch.
func (h *Host) Watchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watchers)
}

// Watch implements control.Devices.
func (h *Host) Watch(fn func(namespace, name, property string, v device.Value)) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.next
	h.next++
	h.watchers[id] = fn
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, id)
	}
}

// Call implements control.Explorer: the method sum adds its arguments.
func (h *Host) Call(_ context.Context, _, _, method string, args map[string]string) (map[string]string, error) {
	if method != "sum" {
		return nil, &control.Error{Code: control.CodeNotFound, Text: "there is no method " + method}
	}
	sum := 0
	for k, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil {
			return nil, fmt.Errorf("argument %s: %w", k, err)
		}
		sum += n
	}
	return map[string]string{"sum": strconv.Itoa(sum)}, nil
}

// Browse implements control.Explorer: a tree without end, whose folders have a folder, a loop back, and a value.
func (h *Host) Browse(_ context.Context, _, name, node string, limit int) ([]device.BrowseEntry, error) {
	if name == "valve" {
		return nil, fmt.Errorf("modbus: %w", errors.ErrUnsupported)
	}
	h.mu.Lock()
	h.Browsed++
	h.mu.Unlock()
	all := []device.BrowseEntry{
		{Node: node + "/a", Name: "a"}, {Node: "", Name: "Reset", Visitor: map[string]any{"methodID": "i=1"}},
		{Node: node + "/v", Name: "Value 1", Visitor: map[string]any{"nodeID": "ns=1;s=" + node + "/v"}, Type: device.TypeFloat, Writable: true},
	}
	return all[:min(limit, len(all))], nil
}

// Plan implements control.Explorer: both devices share a line.
func (h *Host) Plan(_, name string) ([]devices.CyclePlan, error) {
	return []devices.CyclePlan{{Every: time.Second, Properties: []string{name + "-1", name + "-2"}, Plan: device.Plan{Line: "/dev/ttyS1 (9600 8E1)", Load: 0.25,
		Requests: []device.PlannedRequest{{Text: "read holding registers 0 to 1", Points: []int{0, 1}, Bytes: 17, Time: 27 * time.Millisecond}}}}}, nil
}

// History implements control.Options.History: power was 1, 2, 3 … once a second, until now.
func (h *Host) History(_, name, _ string, from, _ time.Time, limit int) (out []control.Kept, err error) {
	if name != "meter" {
		return nil, nil
	}
	now := time.Now()
	for n := range 300 {
		if at := now.Add(time.Duration(n-299) * time.Second); at.After(from) {
			out = append(out, control.Kept{Property: "power", Value: device.Int(int64(n + 1)).At(at)})
		}
	}
	return out[max(0, len(out)-limit):], nil
}

// HistoryStats implements control.Options.HistoryStats: the meter has lost values, and a target is behind.
func (h *Host) HistoryStats(_, name string) control.HistoryStats {
	if name != "meter" {
		return control.HistoryStats{}
	}
	return control.HistoryStats{Values: 300, Bytes: 4200, Overwritten: 12, Dropped: 7, TooLarge: 1,
		Targets: []control.HistoryTarget{{Name: "influx", Pending: 250, Lost: 9}}}
}

// Serve serves the host and returns the socket.
func Serve(t testing.TB, h *Host, drivers ...device.Driver) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "c.sock")
	s := control.New(control.Options{Socket: socket, Devices: h, Explorer: h, Drivers: drivers, History: h.History, HistoryStats: h.HistoryStats})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	client := control.NewClient(socket)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		_, err := client.Devices(t.Context())
		if err == nil {
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
