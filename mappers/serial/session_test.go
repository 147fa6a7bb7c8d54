package serial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/serialline"
)

func TestOneRequestServesAllItsProperties(t *testing.T) {
	m := startMeter(t)
	m.set("a", "1;2;3")
	d := New()
	s := devicetest.Open(t, d, m.config("request", "01R a\\r"))
	points := devicetest.Compile(t, d,
		visitor(device.TypeInt, "pattern", `=(\d)`),
		visitor(device.TypeInt, "pattern", `=\d;(\d)`, "scale", 10, "add", 0.5),
		visitor(device.TypeFloat, "column", 3, "separator", ";"),
		visitor(device.TypeString, "request", "02R a\\r", "match", "^02"),
		visitor(device.TypeInt, "pattern", `nothing=(\d)`),
	)
	got, err := read(t, s, points)
	want := []string{"1", "20.5", "3", "02a=1;2;3", `[bad: "01a=1;2;3" does not match the pattern]`}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if asked := m.requests(); !slices.Equal(asked, []string{"01R a", "02R a"}) {
		t.Errorf("asked %q", asked)
	}
}

func TestWritesAreAcknowledgedAndVerified(t *testing.T) {
	m := startMeter(t)
	d := New()
	s := devicetest.Open(t, d, m.config("station", "7"))
	set := func(kv ...any) device.Point {
		return devicetest.Compile(t, d, visitor(device.TypeFloat, append([]any{"request", "{station:%02d}R set\\r", "pattern", "=(.*)"}, kv...)...))[0]
	}
	scaled := set("write", "{station:%02d}W set {value:%05d}\\r", "ack", "OK", "nak", "NO", "scale", 0.1)
	rounded := set("write", "{station:%02d}W set {value:%.1f}\\r", "ack", "OK")
	blind := set("write", "{station:%02d}W set {value}\\r", "readBack", false)
	for _, c := range []struct {
		p        device.Point
		v        device.Value
		verified bool
		wire     string
		err      string
	}{
		{scaled, device.Float32(21.5), true, "07W set 00215", ""},
		{scaled, device.Float32(-0.1), true, "07W set -0001", ""},
		{scaled, device.Float32(21.55), false, "", "is not a whole number"},
		{rounded, device.Float(21.449), true, "07W set 21.4", ""},
		{blind, device.Float32(0.1), false, "07W set 0.1", ""},
		{set("write", "{station:%02d}W set 13\\r", "ack", "OK", "nak", "NO"), device.Float(1), false, "07W set 13", `the device refused 1: it said "07NO unlucky"`},
		{set("write", "{station:%02d}W set 13\\r", "ack", "OK"), device.Float(1), false, "07W set 13", `"07NO unlucky", which is not what was asked for`},
		{set("write", "{station:%02d}W other {value}\\r", "ack", "OK"), device.Float(5), false, "07W other 5", "read-back differs: wrote 5, and the device shows 0.1"},
	} {
		m.requests()
		res := s.Write(t.Context(), []device.Write{{Point: c.p, Value: c.v}})[0]
		var asked []string
		if c.wire != "" { // without a reply, Write is back before the device has read it
			eventually(t, "the command", func() bool {
				asked = append(asked, m.requests()...)
				return len(asked) > 0
			})
		}
		asked = append(asked, "")
		if res.Verified != c.verified || asked[0] != c.wire || (res.Err == nil) != (c.err == "") || c.err != "" && !strings.Contains(res.Err.Error(), c.err) {
			t.Errorf("%s to %s: %+v, sent %q", c.v.Text(), c.p, res, asked)
		}
	}
	text := devicetest.Compile(t, d, visitor(device.TypeString, "write", "{value}\\r"))[0]
	if err := text.(device.ValueChecker).CheckValue(device.String("1\r01W set 9")); err == nil {
		t.Error("a value may contain a second command")
	}
}

func TestDeviceThatTalksByItself(t *testing.T) {
	m := startMeter(t)
	d := New()
	s := devicetest.Open(t, d, m.config("staleAfter", 300, "badAfter", 2000, "prefix", "S:"))
	points := devicetest.Compile(t, d, visitor(device.TypeFloat, "pattern", `W=([\d.]+)`), visitor(device.TypeInt, "pattern", `N=(\d+)`), visitor(device.TypeInt, "pattern", "never=(.)"))
	var got []string
	eventually(t, "both values", func() bool {
		m.say(t, "S:W=12.5\r\nX:W=99\r\nS:N=4\r\n") // again: before they are read they may be old
		var err error
		got, err = read(t, s, points[:2])
		return err == nil && got[0] == "12.5" && got[1] == "4"
	})
	m.say(t, "S:junk")
	if got, _ := read(t, s, points); !strings.Contains(got[2], "bad: the device has not sent it yet") {
		t.Errorf("%q", got[2])
	}
	eventually(t, "stale values", func() bool {
		got, _ = read(t, s, points[:2])
		return strings.Contains(got[0], "uncertain: the device has not sent it for more than 300ms")
	})
	eventually(t, "bad values", func() bool {
		var err error
		got, err = read(t, s, points[:2])
		return errors.Is(err, device.ErrUnreachable) && strings.Contains(got[1], "bad: ")
	})
	m.say(t, "S:W=13\r\n") // ends the junk, too
	m.say(t, "S:W=14\r\n")
	eventually(t, "fresh values", func() bool {
		got, err := read(t, s, points[:1])
		return err == nil && got[0] == "14"
	})
	m.pty.Unplug()
	eventually(t, "the line to be missed", func() bool {
		got, err := read(t, s, points[:1])
		return errors.Is(err, device.ErrUnreachable) && strings.Contains(got[0], "14[bad: ") && strings.Contains(err.Error(), "plugged")
	})
	m.pty.Replug()
	eventually(t, "values after the port is back", func() bool {
		m.say(t, "S:W=15\r\n")
		got, err := read(t, s, points[:1])
		return err == nil && got[0] == "15"
	})
}

func TestSubscribe(t *testing.T) {
	m := startMeter(t)
	d := New()
	s := devicetest.Open(t, d, m.config()).(device.Subscriber)
	points := devicetest.Compile(t, d, visitor(device.TypeInt, "pattern", `N=(\d+)`))
	var mu sync.Mutex
	var got []string
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Subscribe(ctx, points, func(_ int, v device.Value) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, v.Quality.String()+" "+v.Text())
		})
	}()
	has := func(want string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Contains(got, want)
		}
	}
	eventually(t, "the first value", func() bool {
		m.say(t, "N=1\r\n")
		return has("good 1")()
	})
	m.say(t, "N=2\r\n")
	eventually(t, "the second value", has("good 2"))
	m.pty.Unplug()
	eventually(t, "the gap", has("uncertain 2"))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	polled := devicetest.Compile(t, d, visitor(device.TypeInt, "request", "x"))
	var refused *device.NotSubscribableError
	if err := s.Subscribe(t.Context(), append(points, polled...), nil); !errors.As(err, &refused) || !slices.Equal(refused.Points, []int{1}) {
		t.Errorf("a property with a request cannot be subscribed to: %v", err)
	}
}

// TestSilentDeviceDoesNotStopItsNeighbour: two devices on one line, one of them dead.
func TestSilentDeviceDoesNotStopItsNeighbour(t *testing.T) {
	m := startMeter(t)
	m.answer = func(r string) (string, bool) { return "", strings.HasPrefix(r, "02") }
	m.set("a", "1")
	d := New()
	alive, dead := devicetest.Open(t, d, m.config("station", "01", "request", "{station}R a\\r")), devicetest.Open(t, d, m.config("station", "02", "request", "{station}R a\\r"))
	points := devicetest.Compile(t, d, visitor(device.TypeInt, "pattern", "=(.)"))
	good := 0
	for range 200 {
		if _, err := read(t, dead, points); !errors.Is(err, device.ErrUnreachable) {
			t.Fatal(err)
		}
		if _, err := read(t, alive, points); err == nil {
			good++
		}
	}
	asked := m.requests()
	probes := len(slices.DeleteFunc(slices.Clone(asked), func(r string) bool { return !strings.HasPrefix(r, "02") }))
	if good != 200 || probes > 20 {
		t.Errorf("%d good reads of 200, %d probes of the dead device", good, probes)
	}
}

func TestInitAndKeepAlive(t *testing.T) {
	m := startMeter(t)
	d := New()
	s := devicetest.Open(t, d, m.config("staleAfter", 300, "init", []any{"hello\\r", "mode 2\\r"}, "initDelay", 1, "keepAlive", "ping\\r", "keepAliveEvery", 100))
	points := devicetest.Compile(t, d, visitor(device.TypeInt, "pattern", `N=(\d+)`))
	_, _ = read(t, s, points)
	var got []string
	seen := func(n int) func() bool {
		return func() bool {
			got = append(got, m.requests()...)
			return len(slices.DeleteFunc(slices.Clone(got), func(r string) bool { return r != "ping" })) >= n
		}
	}
	eventually(t, "keep-alives", seen(3))
	if len(got) < 2 || got[0] != "hello" || got[1] != "mode 2" || slices.Contains(got[2:], "hello") {
		t.Errorf("%q", got)
	}
	m.pty.Unplug()
	time.Sleep(50 * time.Millisecond)
	m.pty.Replug()
	m.serve()
	got = nil
	eventually(t, "keep-alives after the port is back", seen(1))
	if got[0] != "hello" {
		t.Errorf("after the port is back: %q", got)
	}
}

// TestHostileLine: a device that sends without end, and one that sends nothing but garbage, cost a bounded amount and say so.
func TestHostileLine(t *testing.T) {
	for name, c := range map[string]struct {
		junk []byte
		want string
	}{
		"endless frame": {bytes.Repeat([]byte("x"), 4096), "longer than maxFrame"},
		"wrong sums":    {bytes.Repeat([]byte("12345\r\n"), 500), "wrong checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					wg.Go(func() {
						defer func() { _ = conn.Close() }()
						for {
							if _, err := conn.Write(c.junk); err != nil {
								return
							}
						}
					})
				}
			})
			t.Cleanup(func() {
				_ = l.Close()
				wg.Wait()
			})
			addr := l.Addr().(*net.TCPAddr)
			d := New()
			s := devicetest.Open(t, d, device.Config{Device: "ns/d", Protocol: devicetest.Data("ip", "127.0.0.1", "port", addr.Port, "delimiter", "\\n", "checksum", "lrc", "checksumEncoding", "hex", "timeout", 100, "staleAfter", 300)})
			points := devicetest.Compile(t, d, visitor(device.TypeInt, "pattern", `(\d+)`))
			eventually(t, "the reason", func() bool {
				_, err := read(t, s, points)
				return errors.Is(err, device.ErrUnreachable) && strings.Contains(err.Error(), c.want)
			})
			asked := devicetest.Compile(t, d, visitor(device.TypeInt, "request", "x", "pattern", `(\d+)`))
			if _, err := read(t, s, asked); !errors.Is(err, device.ErrUnreachable) {
				t.Errorf("polling a flood: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFloodIsDropped: frames beyond the limit are counted, not parsed.
func TestFloodIsDropped(t *testing.T) {
	p, err := parsePoint(visitor(device.TypeInt))
	if err != nil {
		t.Fatal(err)
	}
	s := &session{config: &config{}, watch: newWatch()}
	synctest.Test(t, func(t *testing.T) { // the second lasts as long as it takes
		s.watch.want(p, "", time.Now())
		for range 3 * maxFramesPerSecond {
			s.received([]byte("1"))
		}
	})
	if s.watch.dropped != 2*maxFramesPerSecond {
		t.Errorf("%d dropped", s.watch.dropped)
	}
	for i := range maxSeen + 100 {
		p := *p
		p.key = fmt.Sprint(i)
		s.watch.want(&p, "", time.Unix(int64(i), 0))
	}
	if len(s.watch.points) != maxSeen {
		t.Errorf("%d points are remembered", len(s.watch.points))
	}
}

func TestCaptureForTheTechnician(t *testing.T) {
	m := startMeter(t)
	m.set("a", "1")
	dir := t.TempDir()
	d := NewCapturing(dir)
	neighbour := devicetest.Open(t, d, m.config("request", "01R a\\r"))
	points := devicetest.Compile(t, d, visitor(device.TypeInt, "pattern", "=(.)"))
	if got, err := read(t, neighbour, points); err != nil || got[0] != "1" {
		t.Fatalf("%q %v", got, err)
	}
	s := devicetest.Open(t, d, m.config("request", "01R a\\r", "capture", 8)) // on the line that is open already
	if _, err := read(t, s, points); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got, err := read(t, neighbour, points); err != nil || got[0] != "1" {
		t.Errorf("without the capture: %q %v", got, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, serialline.CaptureName(m.pty.Path)))
	if err != nil || !strings.Contains(string(text), "|01R a.|") || !strings.Contains(string(text), "|01a=1..|") {
		t.Errorf("%s %v", text, err)
	}
}

// TestBinaryDevice: a device with a length field, a CRC and binary fields, over a serial server; its bytes come one by one.
func TestBinaryDevice(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	crc := func(p []byte) []byte {
		c, _ := parseConfig(device.Config{Protocol: devicetest.Data("ip", "h", "port", 1, "framing", "gap", "checksum", "modbus", "checksumOrder", "little")})
		out, err := c.format.Encode(p)
		if err != nil {
			t.Error(err)
		}
		return out
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		for {
			req := make([]byte, 5) // 68 01 07 and the CRC
			if _, err := io.ReadFull(conn, req); err != nil {
				return
			}
			if !bytes.Equal(req, crc([]byte{0x68, 1, 7})) {
				t.Errorf("asked % x", req)
			}
			reply := append([]byte{0xFF, 0x68, 0xFF}, crc([]byte{0x68, 9, 7, 0x12, 0x34, 0xC1, 0xAC, 0, 0, 0b100, 0x99})...)
			for i := range reply {
				if _, err := conn.Write(reply[i : i+1]); err != nil {
					return
				}
			}
		}
	}()
	d := New()
	s := devicetest.Open(t, d, device.Config{Device: "ns/d", Protocol: devicetest.Data("ip", "127.0.0.1", "port", l.Addr().(*net.TCPAddr).Port, "framing", "length", "start", "\\x68",
		"lengthOffset", 1, "lengthAdjust", 2, "checksum", "CRC-16/MODBUS", "checksumOrder", "little", "envelope", true, "gap", 100, "station", 7, "request", "hex: 68 00 {station:u8}")})
	got, err := read(t, s, devicetest.Compile(t, d,
		visitor(device.TypeInt, "offset", 3, "type", "uint16"), visitor(device.TypeInt, "offset", 3, "type", "int16", "order", "little"),
		visitor(device.TypeFloat, "offset", 5, "type", "float32", "scale", -2), visitor(device.TypeBoolean, "offset", 9, "type", "bit", "bit", 2),
		visitor(device.TypeInt, "offset", -1, "type", "bcd"), visitor(device.TypeBytes, "offset", 3, "type", "bytes", "size", 2), visitor(device.TypeInt, "offset", 30, "type", "uint8"),
	))
	want := []string{"4660", "13330", "43", "true", "99", "EjQ=", "[bad: the frame has 11 bytes, and the field would be bytes 30 to 30]"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q %v", got, err)
	}
	_ = s.Close()
	_ = l.Close()
	<-done
}
