package modbus

import (
	"sync"
	"testing"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

// bus is a serial line with slaves on it.
type bus struct {
	*modbustest.Server
	pty *linetest.PTY
	wg  sync.WaitGroup
	f   modbustest.Framing
}

func newBus(t testing.TB, f modbustest.Framing) *bus {
	b := &bus{Server: modbustest.New(t), f: f}
	t.Cleanup(b.wg.Wait) // after the port is gone
	b.pty = linetest.OpenPTY(t)
	b.serve()
	return b
}

func (b *bus) serve() {
	peer := b.pty.Peer()
	b.wg.Go(func() { b.Serve(peer, b.f) })
}

func (b *bus) config(unit int, kv ...any) device.Config {
	m := map[string]any{"serialPort": b.pty.Path, "slaveID": unit, "timeout": 400, "baudRate": 115200, "serialType": map[modbustest.Framing]string{modbustest.RTU: "RTU", modbustest.ASCII: "ASCII"}[b.f]}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return device.Config{Device: "ns/dev", Protocol: m}
}

// hasty is a driver for tests that wait in real time, and not for its back-offs.
func hasty() *Driver { return NewWith(Options{Haste: 20}) }

// model is a line without system calls, for synctest: it is opened anew with slaves that answer whenever the driver opens it.
type model struct {
	*modbustest.Server
	driver *Driver
	f      modbustest.Framing
	wg     sync.WaitGroup
	opened int
	ends   []*linetest.End
}

func newModel(t *testing.T, f modbustest.Framing) *model {
	m := &model{Server: modbustest.New(t), f: f}
	m.driver = NewWith(Options{Port: func(cfg serialline.Config) (serialline.Line, error) {
		near, far := linetest.Pair(cfg)
		m.opened++
		m.ends = append(m.ends, near)
		m.wg.Go(func() { m.Serve(far, m.f) })
		return near, nil
	}})
	return m
}

func (m *model) config(unit int, kv ...any) device.Config {
	c := map[string]any{"serialPort": "/dev/ttyMODEL", "slaveID": unit, "baudRate": 115200, "serialType": map[modbustest.Framing]string{modbustest.RTU: "RTU", modbustest.ASCII: "ASCII"}[m.f]}
	for i := 0; i < len(kv); i += 2 {
		c[kv[i].(string)] = kv[i+1]
	}
	return device.Config{Device: "ns/dev", Protocol: c}
}

// close ends the line; sessions on it are closed by then.
func (m *model) close() {
	for _, e := range m.ends {
		_ = e.Close()
	}
	m.wg.Wait()
}
