//go:build integration

package e2e_test

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
)

// pump is a device that counts who is connected and what is written.
type pump struct {
	*modbustest.Server
	name, on string // the gateway that has it
	accepted int    // connections before that one's
}

func newPump(t *testing.T, name, on string) *pump {
	t.Helper()
	p := &pump{Server: modbustest.Start(t), name: name, on: on}
	p.Unit(1).SetHolding(0, 7)
	host, _, err := net.SplitHostPort(p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	apply(t, pumpDevice, "NAME", name, "NODE", on, "MODBUS_IP", host, "MODBUS_PORT", strconv.Itoa(p.Port()))
	valuesGood(t, name)
	return p
}

// move gives the device to another gateway and, in the same breath, wants a value of it.
func (p *pump) move(t *testing.T, to string, desired int) {
	t.Helper()
	if to != p.on {
		p.on, p.accepted = to, p.Accepted()
	}
	kubectl(t, "patch", "device", p.name, "--type=json", "-p", fmt.Sprintf(
		`[{"op":"replace","path":"/spec/nodeName","value":%q},{"op":"add","path":"/spec/properties/3/desired","value":{"value":"%d"}}]`, to, desired))
}

// verified waits until the value that is wanted is in the device, and nobody but the gateway that it was moved to has a connection with it.
func (p *pump) verified(t *testing.T, value int) {
	t.Helper()
	stacktest.Eventually(t, 20*time.Second, fmt.Sprintf("setpoint %d of %s is verified, by one gateway", value, p.name), func() (bool, string) {
		d := deviceState(t, p.name)
		v, has, open := d.Value("setpoint"), int(p.Unit(1).Holding(0)), p.Open()
		return v.Desired == strconv.Itoa(value) && v.Outcome == "verified" && v.Value == v.Desired && v.Quality == "good" && d.State == "online" && has == value && open == 1 && p.Accepted() > p.accepted,
			fmt.Sprintf("%+v; the register holds %d, %d connections, %d so far", d, has, open, p.Accepted())
	})
}

// writes returns what was written since the last call.
func (p *pump) writes() (out []int) {
	for _, r := range p.TakeLog() {
		if r.Function > 4 {
			out = append(out, int(r.Quantity))
		}
	}
	return out
}

// TestMovedBetweenGateways: a device that is moved from one running gateway to another is written once, by the new one, and the old one lets go of it.
func TestMovedBetweenGateways(t *testing.T) {
	const name = "moved-1"
	remove(t, "device/"+name, "devicemodel/pump")
	apply(t, pumpModel)
	g := newGateway(t, "gw-moved")
	g.mustJoin(t)
	g.start(t)
	g.connected(t)
	p := newPump(t, name, node)
	expect := func(t *testing.T, want ...int) {
		t.Helper()
		if got := p.writes(); !slices.Equal(got, want) {
			t.Errorf("the device was written %v, want %v", got, want)
		}
	}
	p.move(t, node, 40)
	p.verified(t, 40)
	expect(t, 40)
	t.Run("with another value", func(t *testing.T) {
		p.move(t, g.node, 41)
		p.verified(t, 41)
		expect(t, 41)
	})
	t.Run("with the same value", func(t *testing.T) { // the new gateway does not know what the old one has done
		p.move(t, node, 41)
		p.verified(t, 41)
		var got []int
		stacktest.Eventually(t, 10*time.Second, "it is written once more", func() (bool, string) {
			got = append(got, p.writes()...)
			return slices.Equal(got, []int{41}), fmt.Sprint(got)
		})
	})
	t.Run("to and fro", func(t *testing.T) {
		for i := range 5 {
			p.move(t, []string{g.node, node}[i%2], 50+i)
			p.verified(t, 50+i)
		}
		expect(t, 50, 51, 52, 53, 54)
	})
	t.Run("while the old gateway is cut off", func(t *testing.T) {
		if err := g.process.Stop(); err != nil {
			t.Fatal(err)
		}
		g.relay(t, "127.0.0.1:9")
		g.start(t)
		p.move(t, node, 70)
		stacktest.Eventually(t, 20*time.Second, "both gateways read the device", func() (bool, string) {
			return p.Open() == 2 && p.Unit(1).Holding(0) == 70, fmt.Sprintf("%d connections, the register holds %d", p.Open(), p.Unit(1).Holding(0))
		})
		if err := g.process.Stop(); err != nil {
			t.Fatal(err)
		}
		g.relay(t, w.RelayAt)
		g.start(t)
		g.connected(t)
		p.verified(t, 70)
		expect(t, 70)
	})
}
