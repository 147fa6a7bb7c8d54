package control_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skerry/skerry/firmware/control"
	"github.com/skerry/skerry/firmware/control/controltest"
	"github.com/skerry/skerry/firmware/localhttp"
	"github.com/skerry/skerry/mappers/device"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func code(err error) string {
	var e *control.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// TestReadAndWrite goes through the socket.
func TestReadAndWrite(t *testing.T) {
	h := controltest.New()
	socket := controltest.Serve(t, h)
	c := control.NewClient(socket)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
	all, err := c.Devices(t.Context())
	if err != nil || len(all) != 2 || all[0].Properties[0].Value != "230.5" || all[1].Reason != "Unreachable" {
		t.Fatalf("%+v %v", all, err)
	}
	got, err := c.Read(t.Context(), "default", "meter", []string{"power"})
	if err != nil || len(got) != 1 || got[0].Value != "230.5" || got[0].Quality != "good" || got[0].Unit != "W" {
		t.Errorf("%+v %v", got, err)
	}
	if got, err = c.Read(t.Context(), "plant", "valve", nil); err != nil || len(got) != 1 || got[0].Quality != "bad" || got[0].Reason == "" {
		t.Errorf("a device that does not answer: %+v %v", got, err)
	}
	if w, err := c.Write(t.Context(), "default", "meter", "setpoint", "22.5"); err != nil || w.Outcome != "verified" || w.Readback.Value != "22.5" {
		t.Errorf("%+v %v", w, err)
	}
	if w, err := c.Write(t.Context(), "default", "meter", "setpoint", "99"); err != nil || w.Outcome != "failed" || w.Readback.Value != "98" || w.Reason == "" {
		t.Errorf("%+v %v", w, err)
	}
	if r, err := c.Call(t.Context(), "default", "meter", "sum", map[string]string{"a": "1", "b": "2"}); err != nil || r["sum"] != "3" {
		t.Errorf("%v %v", r, err)
	}
	p, err := c.Plan(t.Context(), "plant", "valve")
	if err != nil || len(p.Devices) != 2 || p.Devices[0].Name != "valve" || p.Load != 0.5 || p.Devices[1].Cycles[0].Requests[0].Properties[1] != "meter-2" {
		t.Errorf("%+v %v", p, err)
	}
}

// TestWrongInput: every mistake has a code and says what is wrong.
func TestWrongInput(t *testing.T) {
	c := control.NewClient(controltest.Serve(t, controltest.New()))
	_, noDevice := c.Read(t.Context(), "default", "metre", nil)
	_, noProperty := c.Read(t.Context(), "default", "meter", []string{"pover"})
	_, noValue := c.Write(t.Context(), "default", "meter", "setpoint", "warm")
	_, noMethod := c.Call(t.Context(), "default", "meter", "times", nil)
	_, tooLong := c.Write(t.Context(), "default", "meter", "setpoint", strings.Repeat("9", 1<<17))
	deep := c.Browse(t.Context(), "default", "meter", control.BrowseRequest{Depth: 99}, func(control.Entry) error { return nil })
	cannot := c.Browse(t.Context(), "plant", "valve", control.BrowseRequest{}, func(control.Entry) error { return nil })
	protocol := c.Scan(t.Context(), control.ScanRequest{Protocol: "profibus"}, func(control.ScanLine) error { return nil })
	watch := c.Watch(t.Context(), []string{"default/metre"}, nil, func(control.Change) error { return nil })
	_, fingerprint := c.Decide(t.Context(), "aabbccddee", "accept")
	_, shortFingerprint := c.Decide(t.Context(), "aa", "accept")
	for _, x := range []struct {
		err  error
		code string
		says string
	}{
		{noDevice, control.CodeNotFound, "default/meter, plant/valve"}, {noProperty, control.CodeNotFound, "power, setpoint"},
		{noValue, control.CodeFailed, "not a FLOAT"}, {noMethod, control.CodeNotFound, "times"}, {tooLong, control.CodeInvalid, "longer than"},
		{deep, control.CodeInvalid, "depth"}, {cannot, control.CodeUnsupported, ""}, {protocol, control.CodeUnsupported, "profibus"},
		{watch, control.CodeNotFound, "metre"}, {fingerprint, control.CodeNotFound, "aabbccddee"}, {shortFingerprint, control.CodeInvalid, "digits"},
	} {
		if code(x.err) != x.code || !strings.Contains(fmt.Sprint(x.err), x.says) {
			t.Errorf("got %q %v, want %q with %q", code(x.err), x.err, x.code, x.says)
		}
	}
}

// TestWatch: first what is known, then every change, for as long as somebody reads.
func TestWatch(t *testing.T) {
	h := controltest.New()
	c := control.NewClient(controltest.Serve(t, h))
	ctx, cancel := context.WithCancel(t.Context())
	var got []string
	err := c.Watch(ctx, []string{"default/meter"}, []string{"power"}, func(ch control.Change) error {
		got = append(got, fmt.Sprint(ch.Device, ".", ch.Name, "=", ch.Value, ch.Unit, " ", ch.Initial))
		switch len(got) {
		case 1:
			h.Change("plant", "valve", "open", device.Bool(true)) // not asked for
			h.Change("default", "meter", "power", device.Float(1))
		case 2:
			cancel()
		}
		return nil
	})
	if want := "[meter.power=230.5W true meter.power=1W false]"; fmt.Sprint(got) != want || !errors.Is(err, context.Canceled) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	for h.Watchers() > 0 {
		time.Sleep(time.Millisecond)
	}
}

// TestWatchEndsWithTheDevice: whoever watches a device that is taken away is told, and a watch of all devices goes on.
func TestWatchEndsWithTheDevice(t *testing.T) {
	h := controltest.New()
	c := control.NewClient(controltest.Serve(t, h))
	ctx, cancel := context.WithCancel(t.Context())
	all := make(chan error, 1)
	go func() { all <- c.Watch(ctx, nil, nil, func(control.Change) error { return nil }) }()
	var last control.Change
	err := c.Watch(t.Context(), []string{"default/meter"}, nil, func(ch control.Change) error {
		h.Remove("default", "meter")
		last = ch
		return nil
	})
	if err != nil || last.End != "this gateway does not have default/meter any more" {
		t.Errorf("%v, %+v", err, last)
	}
	select {
	case err := <-all:
		t.Errorf("the watch of all devices ended: %v", err)
	default:
	}
	cancel()
	if err := <-all; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestSlowWatcher: a client that reads nothing blocks nobody, and is told how much it missed.
func TestSlowWatcher(t *testing.T) {
	h := controltest.New()
	socket := controltest.Serve(t, h)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for h.Watchers() == 0 {
		time.Sleep(time.Millisecond)
	}
	const changes = 50_000
	reason := strings.Repeat("x", 100)
	for i := range changes { // returns although nobody reads: Change calls the server's function in line
		h.Change("default", "meter", "power", device.Int(int64(i)).Doubt(device.Uncertain, reason))
	}
	missed, last := 0, ""
	in := bufio.NewScanner(conn)
	in.Buffer(nil, 1<<20)
	for !strings.Contains(last, fmt.Sprintf(`"value":"%d"`, changes-1)) && in.Scan() {
		last = in.Text()
		var n int
		if i := strings.Index(last, `"missed":`); i >= 0 {
			if _, err := fmt.Sscanf(last[i:], `"missed":%d`, &n); err == nil {
				missed += n
			}
		}
	}
	if missed == 0 || !strings.Contains(last, fmt.Sprint(changes-1)) {
		t.Errorf("missed %d, the last line is %q", missed, last)
	}
}

// TestTooManyStreams: the one too many is told so, and requests are answered all the same.
func TestTooManyStreams(t *testing.T) {
	h := controltest.New()
	c := control.NewClient(controltest.Serve(t, h))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var busy atomic.Int32
	for range 12 {
		wg.Go(func() {
			if err := c.Watch(ctx, nil, nil, func(control.Change) error { return nil }); code(err) == control.CodeBusy {
				busy.Add(1)
			}
		})
	}
	for int(busy.Load())+h.Watchers() < 12 {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Devices(t.Context()); err != nil {
		t.Error(err)
	}
	if n := h.Watchers(); n != 8 {
		t.Errorf("%d streams at a time", n)
	}
	cancel()
	wg.Wait()
}

// TestIdleConnections: peers that connect and say nothing keep nobody out for long.
func TestIdleConnections(t *testing.T) {
	socket := controltest.Serve(t, controltest.New())
	for range 40 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if _, err := control.NewClient(socket).Devices(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBrowse stops at depth and limit, and walks into no loop.
func TestBrowse(t *testing.T) {
	h := controltest.New()
	c := control.NewClient(controltest.Serve(t, h))
	count, cut := 0, ""
	walk := func(req control.BrowseRequest) error {
		count, cut = 0, ""
		return c.Browse(t.Context(), "default", "meter", req, func(e control.Entry) error {
			if e.End != "" {
				cut = e.End
			} else {
				count++
			}
			return nil
		})
	}
	if err := walk(control.BrowseRequest{}); err != nil || count != 3 || cut != "" {
		t.Errorf("one level: %d %q %v", count, cut, err)
	}
	if err := walk(control.BrowseRequest{Depth: 3}); err != nil || count != 3+2*3+4*3 {
		t.Errorf("three levels: %d %v", count, err)
	}
	if err := walk(control.BrowseRequest{Depth: 16, Limit: 100}); err != nil || count != 100 || !strings.Contains(cut, "100") {
		t.Errorf("a limit: %d %q %v", count, cut, err)
	}
}

// scanner is a driver that finds what it is told.
type scanner struct {
	device.Driver
	scans atomic.Int32
	hold  chan struct{}
}

func (s *scanner) Protocols() []string { return []string{"morse"} }
func (s *scanner) Scan(ctx context.Context, req device.ScanRequest, progress func(int, int, string), found func(device.ScanResult)) error {
	s.scans.Add(1)
	defer s.scans.Add(-1)
	if req.Protocol["ip"] == nil {
		return &device.FieldError{Field: "configData.ip", Problem: "is missing"}
	}
	for i, what := range []string{"fast, unit 1", "fast, unit 2", "slow, unit 1"} {
		progress(i, 3, what)
		if what == "fast, unit 1" {
			found(device.ScanResult{Protocol: map[string]any{"unit": 1}, Name: "M"})
		}
		if s.hold != nil {
			select {
			case <-s.hold:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// TestScan: one at a time, and it ends with whoever asked for it.
func TestScan(t *testing.T) {
	s := &scanner{}
	c := control.NewClient(controltest.Serve(t, controltest.New(), s))
	var names []string
	last := ""
	run := func(req control.ScanRequest) error {
		return c.Scan(t.Context(), req, func(l control.ScanLine) error {
			if l.Found != nil {
				names = append(names, l.Found.Name)
			}
			if l.What != "" {
				last = l.What
			}
			return nil
		})
	}
	if err := run(control.ScanRequest{Protocol: "MORSE", Config: map[string]any{"ip": "x"}}); err != nil || fmt.Sprint(names) != "[M]" || last != "slow, unit 1" {
		t.Errorf("%v %v %q", err, names, last)
	}
	if err := run(control.ScanRequest{Protocol: "morse", Config: map[string]any{"ip": "x"}, First: true}); err != nil || last != "fast, unit 2" {
		t.Errorf("with First: %v %q", err, last)
	}
	if err := run(control.ScanRequest{Protocol: "morse"}); code(err) != control.CodeInvalid {
		t.Errorf("without an address: %v", err)
	}
	s.hold = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Scan(ctx, control.ScanRequest{Protocol: "morse", Config: map[string]any{"ip": "x"}}, func(control.ScanLine) error { return nil })
	}()
	for s.scans.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := run(control.ScanRequest{Protocol: "morse", Config: map[string]any{"ip": "x"}}); code(err) != control.CodeBusy {
		t.Errorf("a second scan: %v", err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("a scan that was given up ended well")
	}
	for s.scans.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
}

// TestNobodyThere says what to do.
func TestNobodyThere(t *testing.T) {
	_, err := control.NewClient(filepath.Join(t.TempDir(), "none.sock")).Devices(t.Context())
	if !errors.Is(err, localhttp.ErrNotRunning) || !strings.Contains(err.Error(), "systemctl status skerryd") {
		t.Error(err)
	}
}

// TestPeerIsChecked: who is neither root nor the agent's user is refused, whatever the socket's mode.
func TestPeerIsChecked(t *testing.T) {
	h := controltest.New()
	s := control.New(control.Options{Socket: "unused", Devices: h, Explorer: h})
	l, err := net.Listen("tcp", "127.0.0.1:0") // a connection that has no credentials
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/v1/devices")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "only root") {
		t.Errorf("%s %s", resp.Status, body)
	}
	_ = srv.Close()
	<-done
	http.DefaultClient.CloseIdleConnections()
}
