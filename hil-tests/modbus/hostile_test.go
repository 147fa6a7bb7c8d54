package modbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/hil-tests/rig/devicehost"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

// cable carries TCP connections and serial lines to slaves, in memory and in a model of time.
type cable struct {
	wg sync.WaitGroup

	mu     sync.Mutex
	slaves map[string]*modbustest.Server // by host:port, or by path
	framed map[string]modbustest.Framing
	open   []*linetest.End
	opened map[string]int
}

// wired is a connection over a line of the model that is as fast as a network.
type wired struct{ *linetest.End }

func (wired) LocalAddr() net.Addr                  { return &net.TCPAddr{} }
func (wired) RemoteAddr() net.Addr                 { return &net.TCPAddr{} }
func (w wired) SetReadDeadline(t time.Time) error  { return w.SetDeadline(t) }
func (w wired) SetWriteDeadline(t time.Time) error { return w.SetDeadline(t) }

func (c *cable) connect(name string, cfg serialline.Config) (*linetest.End, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	srv, framing := c.slaves[name], c.framed[name]
	if srv == nil {
		return nil, errors.New("nothing listens there")
	}
	c.opened[name]++
	near, far := linetest.Pair(cfg)
	c.open = append(c.open, near)
	c.wg.Go(func() {
		if framing == modbustest.MBAP {
			srv.ServeConn(wired{far})
			return
		}
		srv.Serve(far, framing)
	})
	return near, nil
}

func (c *cable) dial(_ context.Context, _, addr string) (net.Conn, error) {
	end, err := c.connect(addr, serialline.Config{Baud: 4_000_000, DataBits: 8, StopBits: 1})
	if err != nil {
		return nil, err
	}
	return wired{end}, nil
}

func (c *cable) port(cfg serialline.Config) (serialline.Line, error) {
	end, err := c.connect(cfg.Path, cfg)
	if err != nil {
		return nil, err
	}
	return end, nil
}

func (c *cable) close() {
	c.mu.Lock()
	for _, e := range c.open {
		_ = e.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// The registers of a unit tell which they are: a value that was meant for another request is seen at once.
func registerOf(unit, addr int) uint16 { return uint16(unit*1000 + addr) }

const (
	hostileTime = 5 * time.Minute
	changeEvery = 20 * time.Second // of the neighbour's setpoint
)

// hostileFaults are what a hostile unit chooses from. Some of its replies are good, so that it is asked again at once and not left alone.
var hostileFaults = []modbustest.Fault{
	modbustest.None, modbustest.None, modbustest.None, modbustest.None, modbustest.WrongUnit, modbustest.WrongFunction, modbustest.ShortData, modbustest.LongData,
	modbustest.WrongCount, modbustest.Late, modbustest.Duplicate, modbustest.ByteWise, modbustest.Garbage, modbustest.Silent, modbustest.Truncated, modbustest.Stale,
	modbustest.Random, modbustest.Babble,
}

// TestAHostileSlaveCostsOnlyItself: five minutes of a model's time for each transport and seed, on the agent's device host. A neighbour on
// another endpoint loses nothing; one behind the same endpoint is polled and written to all the time; nothing is ever taken for a
// value that is none; and the hostile unit is not asked more often than its cycle and its retries say.
func TestAHostileSlaveCostsOnlyItself(t *testing.T) {
	for name, c := range map[string]struct {
		framing modbustest.Framing
		config  map[string]any // of the shared endpoint
		more    []modbustest.Fault
	}{
		"TCP": {modbustest.MBAP, map[string]any{"ip": "10.0.0.1"}, []modbustest.Fault{
			modbustest.WrongTransaction, modbustest.WrongProtocol, modbustest.HugeLength, modbustest.ZeroLength, modbustest.Endless, modbustest.Hangup,
		}},
		"TCP pipelined": {modbustest.MBAP, map[string]any{"ip": "10.0.0.1", "pipeline": 4, "maxRegisters": 10}, []modbustest.Fault{modbustest.WrongTransaction, modbustest.Hangup}},
		"RTU":           {modbustest.RTU, map[string]any{"serialPort": "/dev/model", "baudRate": 19200, "parity": "even"}, []modbustest.Fault{modbustest.BadSum, modbustest.Noise}},
		"ASCII":         {modbustest.ASCII, map[string]any{"serialPort": "/dev/model", "baudRate": 19200, "serialType": "ASCII"}, []modbustest.Fault{modbustest.BadSum, modbustest.Noise}},
		"RTU over TCP":  {modbustest.RTU, map[string]any{"ip": "10.0.0.1", "serialType": "RTUoverTCP"}, []modbustest.Fault{modbustest.BadSum, modbustest.Hangup}},
	} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					faults := slices.Concat(c.more, hostileFaults)
					if c.config["pipeline"] != nil {
						// A reply that lacks its end is filled up with the beginning of the next one. As long as that is all that has come, nobody
						// can tell.
						faults = slices.DeleteFunc(faults, func(f modbustest.Fault) bool { return f == modbustest.Truncated })
					}
					hostile(t, c.framing, c.config, faults, seed)
				})
			})
		}
	}
}

func hostile(t *testing.T, framing modbustest.Framing, shared map[string]any, faults []modbustest.Fault, seed uint64) {
	where := "10.0.0.1:502"
	if shared["serialPort"] != nil {
		where = shared["serialPort"].(string)
	}
	bad, good := modbustest.New(t), modbustest.New(t)
	for unit := 1; unit <= 3; unit++ {
		for addr := range 40 {
			bad.Unit(byte(unit)).SetHolding(uint16(addr), registerOf(unit, addr))
			good.Unit(byte(unit)).SetHolding(uint16(addr), registerOf(unit, addr))
		}
	}
	r := rand.New(rand.NewPCG(seed, 7))
	bad.SetDelay(1200 * time.Millisecond)
	bad.Unit(2).SetFaults(func() modbustest.Fault { return faults[r.IntN(len(faults))] })
	wires := &cable{slaves: map[string]*modbustest.Server{where: bad, "10.0.0.2:502": good},
		framed: map[string]modbustest.Framing{where: framing}, opened: map[string]int{}}
	g, err := devicehost.Start(devicehost.Options{Drivers: []device.Driver{modbus.NewWith(modbus.Options{Dial: wires.dial, Port: wires.port})}})
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
		wires.close()
	})
	defer stop()
	// Requests of different sizes, the setpoint's too: what is said to one of them is not the answer to another, which on a line only its
	// size tells.
	addrs := []int{0, 1, 2, 3, 4, 10, 11, 12, 20}
	properties := func(want string) (out []devicehost.Property) {
		for _, a := range addrs {
			out = append(out, devicehost.Property{Name: strconv.Itoa(a), Type: "INT", Visitor: map[string]any{"register": "holding", "offset": int64(a), "type": "uint16"}})
		}
		return append(out, devicehost.Property{Name: "set", Type: "INT", Writable: true, Desired: want, Visitor: map[string]any{"register": "holding", "offset": int64(30), "type": "int32"}})
	}
	device := func(name string, unit int, config map[string]any, want int) devicehost.Object {
		cfg := map[string]any{"slaveID": int64(unit)}
		for k, v := range config {
			if n, ok := v.(int); ok {
				v = int64(n)
			}
			cfg[k] = v
		}
		return devicehost.Device(name, "m", "modbus", cfg, properties(strconv.Itoa(want)))
	}
	far := map[string]any{"ip": "10.0.0.2"}
	units := map[string]int{"hostile": 2, "beside": 1, "elsewhere": 3}
	begun, rounds := time.Now(), 0
	for time.Since(begun) < hostileTime {
		rounds++
		if err := g.Apply(devicehost.Model("m", "modbus", properties("")), device("hostile", 2, shared, rounds), device("beside", 1, shared, rounds), device("elsewhere", 3, far, rounds)); err != nil {
			t.Fatal(err)
		}
		for change := time.Now(); time.Since(change) < changeEvery; time.Sleep(250 * time.Millisecond) {
			for _, d := range g.Host().Status() {
				for _, p := range d.Properties {
					addr, err := strconv.Atoi(p.Name)
					if err == nil && p.Value != "" && p.Value != strconv.Itoa(int(registerOf(units[d.Name], addr))) {
						t.Fatalf("%s shows %s at %d", d.Name, p.Value, addr)
					}
				}
			}
		}
		for _, name := range []string{"beside", "elsewhere"} {
			if d, _ := g.State(name); !d.Ready && name == "elsewhere" || last(d).Outcome != "verified" || last(d).Desired != strconv.Itoa(rounds) {
				t.Errorf("round %d, %s: %s, desired %s is %s", rounds, name, d.Message, last(d).Desired, last(d).Outcome)
			}
		}
	}
	stop()
	polls := int(hostileTime / time.Second)
	// Requests of a cycle: three, or six where maxRegisters is small; a round has a write and its read-back, and a new version of the
	// device makes one more reading.
	each := 4
	asked, beside, elsewhere := bad.Unit(2).Asked(), bad.Unit(1).Asked(), good.Unit(3).Asked()
	t.Logf("requests: hostile %d, beside it %d, elsewhere %d; the shared endpoint was opened %d times", asked, beside, elsewhere, wires.opened[where])
	if most := 2*each*polls + 10*rounds; asked > most {
		t.Errorf("the hostile unit was asked %d times in %d cycles, at most %d are right", asked, polls, most)
	}
	if least := each * polls * 6 / 10; beside < least || beside > 2*each*(polls+4*rounds) {
		t.Errorf("the unit beside it was asked %d times in %d cycles, want %d at least", beside, polls, least)
	}
	if least := each * (polls - 2*rounds); elsewhere < least || elsewhere > each*(polls+4*rounds) {
		t.Errorf("the unit elsewhere was asked %d times in %d cycles, want %d at least", elsewhere, polls, least)
	}
	if n := wires.opened["10.0.0.2:502"]; n != 1 {
		t.Errorf("the connection to the unit elsewhere was opened %d times", n)
	}
	writes := 0
	for _, q := range good.TakeLog() {
		if q.Function == 16 {
			writes++
		}
	}
	if writes != rounds {
		t.Errorf("%d writes elsewhere for %d values", writes, rounds)
	}
}

// last is the state of a device's last property.
func last(d devices.DeviceState) devices.PropertyState {
	if len(d.Properties) == 0 {
		return devices.PropertyState{}
	}
	return d.Properties[len(d.Properties)-1]
}
