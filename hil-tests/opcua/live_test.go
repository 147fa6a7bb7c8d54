//go:build integration

package opcua

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/opcua"
)

// testMethods calls methods with the types that the server declares.
func testMethods(t *testing.T, d *opcua.Driver, s device.Session) {
	c, ok := s.(device.Caller)
	if !ok {
		t.Fatal("sessions do not call methods")
	}
	method := func(name string) device.Point {
		return devicetest.Compile(t, d, point("Machine", device.TypeString, "methodID", "nsu="+opcuapeer.Namespace+";s="+name))[0]
	}
	out, err := c.Call(t.Context(), method("Multiply"), []device.Value{device.Float(6), device.String("7")})
	if err != nil || len(out) != 1 || out[0].Text() != "42" {
		t.Errorf("Multiply: %v %v", out, err)
	}
	out, err = c.Call(t.Context(), method("Describe"), []device.Value{device.Int(2), device.String("ab")})
	if err != nil || len(out) != 2 || out[0].Text() != "abab" || out[1].Text() != "[2,2,3]" {
		t.Errorf("Describe: %v %v", out, err)
	}
	for name, args := range map[string][]device.Value{"Fail": nil, "Multiply": {device.Float(1)}, "Describe": {device.Int(-1), device.String("a")}, "Nothing": nil} {
		if out, err := c.Call(t.Context(), method(name), args); err == nil {
			t.Errorf("%s(%v) gives %v", name, args, out)
		}
	}
	if _, err := c.Call(t.Context(), method("Fail"), nil); err == nil || !strings.Contains(err.Error(), "BadOutOfRange") {
		t.Errorf("the device's own words are missing: %v", err)
	}
}

// testDeadbands: changes within an absolute or percent deadband are not told; those beyond are.
func testDeadbands(t *testing.T, p *opcuapeer.Peer, d *opcua.Driver) {
	s := devicetest.Open(t, d, config(p.URL(), "publishingInterval", 100, "samplingInterval", 50))
	f := follow(t, s, devicetest.Compile(t, d,
		point("N10", device.TypeDouble, "deadband", "5"),
		point("Ramp", device.TypeDouble, "deadband", "10%"), // of an EURange of 0 to 100
		point("N11", device.TypeDouble),
	))
	set := func(v float64) {
		t.Helper()
		for _, node := range []string{"N10", "Ramp", "N11"} {
			if err := p.Set(t.Context(), node, v); err != nil {
				t.Fatal(err)
			}
		}
		f.good(t, 2, device.Float(v).Text(), 10*time.Second) // one without a deadband shows that the others had the time
		time.Sleep(300 * time.Millisecond)
	}
	shown := func(absolute, percent string) {
		t.Helper()
		for i, want := range []string{absolute, percent} {
			if v, _ := f.last(i); v.Text() != want || v.Quality != device.Good {
				t.Errorf("point %d shows %s %q (%s), want %q", i, v.Quality, v.Text(), v.Reason, want)
			}
		}
	}
	set(50)
	shown("50", "50")
	set(54)
	shown("50", "50")
	set(57)
	shown("57", "50")
	set(63)
	shown("63", "63")
}

// testQuality: a status that is not good is the value's quality, with its name, and the value comes with it.
func testQuality(t *testing.T, p *opcuapeer.Peer, d *opcua.Driver, s device.Session) {
	points := devicetest.Compile(t, d, point("N12", device.TypeDouble))
	for status, want := range map[string]device.Quality{"UncertainLastUsableValue": device.Uncertain, "BadSensorFailure": device.Bad, "Good": device.Good} {
		if err := p.SetStatus(t.Context(), "N12", status); err != nil {
			t.Fatal(err)
		}
		v := read(t, s, points)[0]
		if v.Quality != want || want != device.Good && !strings.Contains(v.Reason, status) {
			t.Errorf("%s: %s %q", status, v.Quality, v.Reason)
		}
	}
}

// testElements writes single elements and ranges of an array, and leaves the others alone.
func testElements(t *testing.T, p *opcuapeer.Peer, d *opcua.Driver, s device.Session) {
	points := devicetest.Compile(t, d, point("Ten", device.TypeInt, "indexRange", "3"), point("Ten", device.TypeString, "indexRange", "7:8"), point("Int16Array", device.TypeString))
	for i, r := range s.Write(t.Context(), []device.Write{{Point: points[0], Value: device.Int(33)}, {Point: points[1], Value: device.String("[77,88]")}, {Point: points[2], Value: device.String("[-1,2]")}}) {
		if r.Err != nil || !r.Verified {
			t.Errorf("write %d: %+v", i, r)
		}
	}
	for node, want := range map[string]string{"Ten": `[0,1,2,33,4,5,6,77,88,9]`, "Int16Array": `[-1,2]`} {
		h, err := p.Get(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(h.Value); err != nil || string(got) != want {
			t.Errorf("%s holds %s (%v), want %s", node, got, err, want)
		}
	}
}
