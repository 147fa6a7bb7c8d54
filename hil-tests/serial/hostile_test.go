package serial

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/hil-tests/rig/devicehost"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serial"
	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

const (
	hostileTime = 5 * time.Minute
	changeEvery = 20 * time.Second
	settleTime  = time.Minute // for a value beside noise: several attempts, each after a pause
)

// station is a device that answers "01R" with "01=1000" and "01W7" with "01OK".
type station struct {
	mu      sync.Mutex
	asked   int
	written []string
	set     string
}

// bench is a line of the model with stations, one of which may misbehave.
type bench struct {
	cfg      serialline.Config
	stations map[string]*station
	hostile  string
	rand     *rand.Rand
	wg       sync.WaitGroup

	mu     sync.Mutex
	open   []*linetest.End
	opened int
}

func (b *bench) connect() serialline.Line {
	near, far := linetest.Pair(b.cfg)
	b.mu.Lock()
	b.open = append(b.open, near)
	b.opened++
	b.mu.Unlock()
	b.wg.Go(func() { b.serve(far) })
	return near
}

func (b *bench) close() {
	b.mu.Lock()
	for _, e := range b.open {
		_ = e.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

func (b *bench) serve(line *linetest.End) {
	var have []byte
	buf := make([]byte, 256)
	for {
		n, err := line.Read(buf)
		if err != nil {
			return
		}
		have = append(have, buf[:n]...)
		for {
			request, rest, ok := bytes.Cut(have, []byte("\r"))
			if !ok {
				break
			}
			have = rest
			id := string(request[:min(2, len(request))])
			s := b.stations[id]
			if s == nil {
				continue
			}
			reply := s.answer(id, string(request[2:]))
			if id != b.hostile {
				_, _ = line.Write([]byte(reply)) // a line that is gone is seen by Read
				continue
			}
			b.misbehave(line, reply)
		}
	}
}

func (s *station) answer(id, request string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if request[0] == 'W' {
		s.set = request[1:]
		s.written = append(s.written, s.set)
		return id + "OK\r\n"
	}
	if request == "S" {
		return id + "S=" + s.set + "\r\n"
	}
	return id + "=" + id + "00\r\n"
}

// misbehave does something with a reply.
func (b *bench) misbehave(line *linetest.End, reply string) {
	junk := func(n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(b.rand.Uint32())
		}
		return out
	}
	switch b.rand.IntN(12) {
	case 0: // says nothing
	case 1: // is another
		_, _ = line.Write([]byte("77" + reply[2:]))
	case 2: // lacks its end
		_, _ = line.Write([]byte(reply[:b.rand.IntN(len(reply)-2)]))
	case 3:
		_, _ = line.Write(junk(1 + b.rand.IntN(40)))
	case 4: // seconds of noise
		_, _ = line.Write(junk(3000))
	case 5: // an endless line
		_, _ = line.Write(bytes.Repeat([]byte("7"), 3000))
	case 6: // late
		b.wg.Go(func() {
			time.Sleep(900 * time.Millisecond)
			_, _ = line.Write([]byte(reply))
		})
	case 7: // again and again
		_, _ = line.Write(bytes.Repeat([]byte(reply), 5))
	case 8: // slowly
		for i := range len(reply) {
			time.Sleep(20 * time.Millisecond)
			_, _ = line.Write([]byte{reply[i]})
		}
	default:
		_, _ = line.Write([]byte(reply))
	}
}

// TestAHostileDeviceCostsOnlyItself: five minutes of a model's time on the agent's device host. What one device does to its line costs a
// device beside it some readings and no value, and a device on another line nothing.
func TestAHostileDeviceCostsOnlyItself(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { hostile(t, seed) })
		})
	}
}

func hostile(t *testing.T, seed uint64) {
	cfg := serialline.Config{Baud: 19200, DataBits: 8, StopBits: 1}
	shared := &bench{cfg: cfg, stations: map[string]*station{"10": {}, "20": {}}, hostile: "20", rand: rand.New(rand.NewPCG(seed, 9))}
	other := &bench{cfg: cfg, stations: map[string]*station{"30": {}}}
	lines := map[string]*bench{"/dev/shared": shared, "/dev/other": other}
	g, err := devicehost.Start(devicehost.Options{Drivers: []device.Driver{serial.NewOver(func(cfg serialline.Config) (serialline.Line, error) {
		b := lines[cfg.Path]
		if b == nil {
			return nil, errors.New("no such line")
		}
		return b.connect(), nil
	})}})
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
		shared.close()
		other.close()
	})
	defer stop()
	props := func(want string) []devicehost.Property {
		return []devicehost.Property{
			{Name: "v", Type: "INT", Visitor: map[string]any{"request": `{station}R\r`, "pattern": `^\d\d=(\d+)$`}},
			{Name: "set", Type: "INT", Writable: true, Desired: want, Visitor: map[string]any{
				"request": `{station}S\r`, "pattern": `S=(\d+)$`, "write": `{station}W{value}\r`, "ack": "OK$",
			}},
		}
	}
	dev := func(name, path, id string, want int) devicehost.Object {
		return devicehost.Device(name, "m", "serial", map[string]any{
			"serialPort": path, "baudRate": int64(19200), "station": id, "prefix": "{station}", "timeout": int64(500), "maxFrame": int64(256),
		}, props(strconv.Itoa(want)))
	}
	begun, rounds := time.Now(), 0
	for time.Since(begun) < hostileTime {
		rounds++
		if err := g.Apply(devicehost.Model("m", "serial", props("")), dev("d20", "/dev/shared", "20", rounds), dev("d10", "/dev/shared", "10", rounds), dev("d30", "/dev/other", "30", rounds)); err != nil {
			t.Fatal(err)
		}
		for change := time.Now(); time.Since(change) < changeEvery; time.Sleep(250 * time.Millisecond) {
			for _, d := range g.Host().Status() {
				if v := property(d, "v").Value; v != "" && v != d.Name[1:]+"00" {
					t.Fatalf("%s shows %s", d.Name, v)
				}
			}
		}
		// Noise may cost the device beside the hostile one several attempts, each after a pause.
		for _, name := range []string{"d10", "d30"} {
			settled := func() bool {
				d, _ := g.State(name)
				// Beside the hostile one a read-back may be lost; that the value was accepted is not.
				p := property(d, "set")
				return p.Desired == strconv.Itoa(rounds) && (p.Outcome == "verified" || name == "d10" && p.Outcome == "applied")
			}
			for late := time.Now(); !settled() && name == "d10" && time.Since(late) < settleTime; {
				time.Sleep(time.Second)
			}
			if !settled() {
				d, _ := g.State(name)
				p := property(d, "set")
				t.Errorf("round %d, %s: %s, desired %s is %s", rounds, name, d.Message, p.Desired, p.Outcome)
			}
		}
	}
	stop()
	polls := int(hostileTime / time.Second)
	beside, elsewhere, bad := shared.stations["10"], other.stations["30"], shared.stations["20"]
	t.Logf("requests: hostile %d, beside it %d, elsewhere %d; the lines were opened %d and %d times", bad.asked, beside.asked, elsewhere.asked, shared.opened, other.opened)
	if bad.asked > 2*2*polls+10*rounds {
		t.Errorf("the hostile device was asked %d times in %d cycles", bad.asked, polls)
	}
	if beside.asked < polls || beside.asked > 2*(2*polls+6*rounds) {
		t.Errorf("the device beside it was asked %d times in %d cycles", beside.asked, polls)
	}
	if elsewhere.asked < 2*(polls-2*rounds) || elsewhere.asked > 2*polls+8*rounds || other.opened != 1 || len(elsewhere.written) != rounds {
		t.Errorf("the device elsewhere was asked %d times in %d cycles, its line was opened %d times, %d values were written %d times",
			elsewhere.asked, polls, other.opened, rounds, len(elsewhere.written))
	}
}

func property(d devices.DeviceState, name string) devices.PropertyState {
	for _, p := range d.Properties {
		if p.Name == name {
			return p
		}
	}
	return devices.PropertyState{}
}
