//go:build integration

package serial

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/serialpeer"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/serial"
	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

func point(t device.Type, kv ...any) device.PointConfig {
	d := devicetest.Data(kv...)
	return device.PointConfig{Property: "p", Path: "visitors.configData", Type: t, Writable: d["write"] != nil, Visitor: d}
}

func open(t *testing.T, d device.Driver, cfg map[string]any) device.Session {
	t.Helper()
	s, err := d.Open(t.Context(), device.Config{Device: "ns/dev", Protocol: cfg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// tempDir has no comma in its name, as those of subtests may: socat separates options with them.
func tempDir(t *testing.T) string {
	t.Helper()
	dir := must[string](t)(os.MkdirTemp("", "serial"))
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	return dir
}

func startLine(t *testing.T) *serialpeer.Line {
	t.Helper()
	l := must[*serialpeer.Line](t)(serialpeer.StartLine(t.Context(), tempDir(t)))
	t.Cleanup(func() { check(t, l.Unplug()) })
	return l
}

func startDevice(t *testing.T, l *serialpeer.Line, kind string) *serialpeer.Device {
	t.Helper()
	d := must[*serialpeer.Device](t)(serialpeer.StartDevice(t.Context(), l, kind))
	t.Cleanup(func() { check(t, d.Kill()) })
	return d
}

// eventually waits until check is content.
func eventually(t *testing.T, what string, limit time.Duration, check func() (bool, string)) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		ok, saw := check()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s: %s", limit, what, saw)
		}
	}
}

var (
	scaleWeight = point(device.TypeFloat, "pattern", `GS,(?P<value>[-+ ]*[0-9.]+) kg`)
	scaleStable = point(device.TypeBoolean, "column", 1, "trueText", "ST", "falseText", "US")
	scaleTare   = point(device.TypeFloat, "request", "T?\\r\\n", "pattern", "T=(.*)", "write", "T={value:%.1f}\\r\\n", "ack", "^OK$", "nak", "^ERR")
)

func scaleConfig(kv ...any) map[string]any {
	d := devicetest.Data("delimiter", "\\r\\n", "request", "P\\r\\n", "timeout", 500)
	for k, v := range devicetest.Data(kv...) {
		d[k] = v
	}
	return d
}

// TestConformance runs the drivers' suite with a scale of pyserial, whose line socat makes.
func TestConformance(t *testing.T) {
	devicetest.Run(t, func(t *testing.T) devicetest.Subject {
		l := must[*serialpeer.Line](t)(serialpeer.StartLine(t.Context(), tempDir(t)))
		dev := must[*serialpeer.Device](t)(serialpeer.StartDevice(t.Context(), l, "scale"))
		killed := false
		t.Cleanup(func() {
			_ = dev.Signal(syscall.SIGCONT) // a device that was killed is gone
			_ = dev.Kill()
			check(t, l.Unplug())
		})
		return devicetest.Subject{
			Driver: serial.New(), Config: device.Config{Device: "ns/dev", Protocol: scaleConfig("serialPort", l.Port)},
			Read: []device.PointConfig{scaleWeight, scaleStable, scaleTare}, Write: scaleTare, Values: [2]device.Value{device.Float32(-2.5), device.Float32(3)},
			Kill: func() {
				killed = true
				_ = dev.Kill()
				check(t, l.Unplug())
			},
			Hang: func() { check(t, dev.Signal(syscall.SIGSTOP)) },
			Revive: func() {
				if killed {
					check(t, l.Plug(t.Context()))
					dev = must[*serialpeer.Device](t)(serialpeer.StartDevice(t.Context(), l, "scale"))
					killed = false
					return
				}
				check(t, dev.Signal(syscall.SIGCONT))
			},
			Recovery:    10 * time.Second,
			BadConfigs:  []devicetest.Bad{{Name: "no port", Data: nil, Field: "serialPort"}},
			BadVisitors: []devicetest.Bad{{Name: "two parsers", Data: devicetest.Data("column", 1, "path", "a", "write", "x"), Field: "path"}},
		}
	})
}

// TestMeterWithCRC: binary frames, whose CRC Python computes, with a byte of noise before each of them.
func TestMeterWithCRC(t *testing.T) {
	l := startLine(t)
	startDevice(t, l, "meter")
	d := serial.New()
	s := open(t, d, devicetest.Data("serialPort", l.Port, "framing", "length", "start", "\\x68", "lengthOffset", 1, "lengthAdjust", 2, "checksum", "CRC-16/XMODEM",
		"envelope", true, "station", 7, "request", "hex: 68 00 {station:u8} 01", "prefix", "h"))
	points := devicetest.Compile(t, d,
		point(device.TypeFloat, "offset", 4, "type", "uint16", "scale", 0.1), point(device.TypeInt, "offset", 6, "type", "uint32", "order", "CDAB"), point(device.TypeBoolean, "offset", 10, "type", "bit", "bit", 3),
		point(device.TypeFloat, "request", "hex: 68 00 {station:u8} 02", "offset", 4, "type", "uint16", "scale", 0.1, "write", "hex: 68 00 {station:u8} 12 {value:u16be}", "ack", `^h.\x07\x12`),
	)
	values := make([]device.Value, len(points))
	if err := s.Read(t.Context(), points, values); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"230.1", "305419896", "true", "16"} {
		if values[i].Text() != want {
			t.Errorf("%s: %s %s", points[i], values[i].Text(), values[i].Reason)
		}
	}
	res := s.Write(t.Context(), []device.Write{{Point: points[3], Value: device.Float32(12.5)}})[0]
	if res.Err != nil || !res.Verified || res.Readback.Text() != "12.5" {
		t.Errorf("%+v", res)
	}
	other := open(t, d, devicetest.Data("serialPort", l.Port, "framing", "length", "start", "\\x68", "lengthOffset", 1, "lengthAdjust", 2, "checksum", "CRC-16/XMODEM",
		"envelope", true, "station", 8, "request", "hex: 68 00 {station:u8} 01", "timeout", 200))
	if err := other.Read(t.Context(), points[:1], values[:1]); !errors.Is(err, device.ErrUnreachable) {
		t.Errorf("a station that is not there: %v", err)
	}
}

// receiverLog is what a receiver at a fixed place sends.
func receiverLog() string {
	var b strings.Builder
	for i := range 60 {
		for _, body := range []string{
			fmt.Sprintf("GPRMC,1200%02d.00,A,4807.0382,N,01131.4321,W,010.0,084.4,231126,,,A", i),
			fmt.Sprintf("GPGGA,1200%02d.00,4807.0382,N,01131.4321,W,1,08,0.9,545.4,M,46.9,M,,", i),
			"GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1",
		} {
			sum := byte(0)
			for j := range len(body) {
				sum ^= body[j]
			}
			fmt.Fprintf(&b, "$%s*%02X\r\n", body, sum)
		}
	}
	return b.String()
}

// TestGPSAgreesWithGpsd: one device reads the receiver's sentences, another what gpsd makes of them, and both must see the same place.
func TestGPSAgreesWithGpsd(t *testing.T) {
	g, err := serialpeer.StartGPS(t.Context(), tempDir(t), receiverLog())
	t.Cleanup(func() { check(t, g.Stop()) })
	if err != nil {
		t.Fatal(err)
	}
	d := serial.New()
	ours, gpsd := open(t, d, devicetest.Data("serialPort", g.NMEA, "staleAfter", 3000)), open(t, d, devicetest.Data("serialPort", g.JSON, "match", `"class":"TPV"`, "staleAfter", 3000))
	nmea := devicetest.Compile(t, d,
		point(device.TypeDouble, "sentence", "GGA", "field", "latitude"), point(device.TypeDouble, "sentence", "RMC", "field", "longitude"),
		point(device.TypeDouble, "sentence", "GGA", "field", "altitude"), point(device.TypeDouble, "sentence", "RMC", "field", "speed", "scale", 0.514444))
	json := devicetest.Compile(t, d, point(device.TypeDouble, "path", "lat"), point(device.TypeDouble, "path", "lon"), point(device.TypeDouble, "path", "altMSL"), point(device.TypeDouble, "path", "speed"))
	a, b := make([]device.Value, 4), make([]device.Value, 4)
	eventually(t, "all values of both", 20*time.Second, func() (bool, string) {
		err := errors.Join(ours.Read(t.Context(), nmea, a), gpsd.Read(t.Context(), json, b))
		good := err == nil
		for i := range a {
			good = good && a[i].Quality == device.Good && b[i].Quality == device.Good
		}
		return good, fmt.Sprintf("%v %+v %+v", err, a, b)
	})
	for i, tolerance := range []float64{1.1e-9, 1.1e-9, 1e-4, 1e-3} {
		if diff := math.Abs(a[i].AsFloat() - b[i].AsFloat()); diff > tolerance {
			t.Errorf("%s: %s, and gpsd says %s", nmea[i], a[i].Text(), b[i].Text())
		}
	}
}

// TestSerialServer reaches the scale over TCP.
func TestSerialServer(t *testing.T) {
	l := startLine(t)
	startDevice(t, l, "scale")
	port := must[int](t)(serialpeer.FreePort(t.Context()))
	server, err := serialpeer.StartServer(t.Context(), l, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, server.Kill()) })
	d := serial.New()
	s := open(t, d, scaleConfig("ip", "127.0.0.1", "port", port))
	points := devicetest.Compile(t, d, scaleWeight, scaleTare)
	values := make([]device.Value, 2)
	if err := s.Read(t.Context(), points, values); err != nil || values[0].Quality != device.Good {
		t.Fatalf("%v %+v", err, values)
	}
	res := s.Write(t.Context(), []device.Write{{Point: points[1], Value: device.Float32(-7.5)}})[0]
	if res.Err != nil || !res.Verified {
		t.Errorf("%+v", res)
	}
}

// TestPortOfAnotherProgram: pyserial's exclusive mode keeps the driver out, and the other program is named.
func TestPortOfAnotherProgram(t *testing.T) {
	l := startLine(t)
	startDevice(t, l, "scale")
	holder, err := serialpeer.Hold(t.Context(), l.Port, filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	d := serial.New()
	s := open(t, d, scaleConfig("serialPort", l.Port))
	points, values := devicetest.Compile(t, d, scaleWeight), make([]device.Value, 1)
	err = s.Read(t.Context(), points, values)
	if want := "python3 (process " + strconv.Itoa(holder.PID()) + ")"; !errors.Is(err, device.ErrUnreachable) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	check(t, holder.Kill())
	eventually(t, "the port is ours", 10*time.Second, func() (bool, string) {
		err := s.Read(t.Context(), points, values)
		return err == nil, fmt.Sprint(err)
	})
}

// TestOddBaudRates: rates that are in no table (not in the unit tests, because qemu-user has no TCSETS2).
func TestOddBaudRates(t *testing.T) {
	pty := linetest.OpenPTY(t)
	for _, baud := range []int{12345, 31250, 250000, 76800} {
		p, err := serialline.Open(serialline.Config{Path: pty.Path, Baud: baud})
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := p.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		buf := make([]byte, 1)
		if _, err := io.ReadFull(pty.Peer(), buf); err != nil || !bytes.Equal(buf, []byte("x")) {
			t.Errorf("%q %v", buf, err)
		}
		check(t, p.Close())
	}
}
