package watchdog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/health"
)

// fakeDevice is a watchdog of memory, with the semantics of drivers/watchdog/watchdog_dev.c: V disarms on close if the driver has magic close.
type fakeDevice struct {
	mu      sync.Mutex
	options uint32
	boot    uint32
	seconds int
	longest int
	forever bool
	fed     []time.Time
	magic   bool
	closed  bool
	err     error
}

func (f *fakeDevice) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	f.magic = bytes.ContainsRune(b, 'V')
	f.fed = append(f.fed, time.Now())
	return len(b), nil
}

func (f *fakeDevice) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (f *fakeDevice) info() (Info, error) {
	return Info{Identity: "fake", Options: f.options, BootStatus: f.boot}, nil
}

func (f *fakeDevice) setTimeout(s int) error {
	if s > f.longest {
		return syscall.EINVAL
	}
	f.seconds = s
	return nil
}

func (f *fakeDevice) timeout() (int, error) { return f.seconds, nil }
func (f *fakeDevice) noWayOut() bool        { return f.forever }

// running reports whether the hardware would reset the machine some time.
func (f *fakeDevice) running() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.closed || f.forever || f.options&flagMagicClose != 0 && !f.magic
}

// starved reports whether the hardware has reset the machine.
func (f *fakeDevice) starved() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.fed[len(f.fed)-1]) > time.Duration(f.seconds)*time.Second
}

func usual() *fakeDevice {
	return &fakeDevice{options: flagSetTimeout | flagMagicClose, seconds: 60, longest: 600}
}

func open(t *testing.T, f *fakeDevice, timeout time.Duration) *Device {
	t.Helper()
	d, err := newDevice(f, "/dev/watchdog0", timeout)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDeviceTakesTheTimeoutThatTheHardwareHas(t *testing.T) {
	if d := open(t, usual(), 30*time.Second); d.Timeout() != 30*time.Second || d.String() != "/dev/watchdog0 (fake)" || d.Caveats() != "" {
		t.Errorf("timeout %v, %s, %q", d.Timeout(), d, d.Caveats())
	}
	if d := open(t, usual(), 2*time.Hour); d.Timeout() != time.Minute {
		t.Errorf("timeout %v, want what the hardware has when it refuses another", d.Timeout())
	}
	f := usual()
	f.options = flagMagicClose // it has one timeout only
	if d := open(t, f, 30*time.Second); d.Timeout() != time.Minute {
		t.Errorf("timeout %v of hardware that cannot set it", d.Timeout())
	}
}

func TestDeviceIsDisarmedOnlyWhenAsked(t *testing.T) {
	for _, c := range []struct {
		name            string
		disarm, forever bool
		magic, running  bool
	}{
		{"orderly stop", true, false, true, false},
		{"the machine goes down", false, false, true, true},
		{"orderly stop, nowayout", true, true, true, true},
	} {
		f := usual()
		f.forever = c.forever
		d := open(t, f, 30*time.Second)
		if err := d.Close(c.disarm); err != nil {
			t.Fatal(err)
		}
		if !f.closed || f.running() != c.running {
			t.Errorf("%s: closed %v, runs on %v, want %v", c.name, f.closed, f.running(), c.running)
		}
		if c.forever != strings.Contains(d.Caveats(), "nowayout") {
			t.Errorf("%s: caveats %q", c.name, d.Caveats())
		}
	}
	f := usual()
	f.options = flagSetTimeout
	if d := open(t, f, time.Minute); !strings.Contains(d.Caveats(), "crashes is not noticed") {
		t.Errorf("caveats of a driver without magic close: %q", d.Caveats())
	}
}

func TestDeviceErrorsSayWhatToDo(t *testing.T) {
	if _, err := OpenDevice(filepath.Join(t.TempDir(), "watchdog9"), time.Minute); err == nil || !strings.Contains(err.Error(), "driver is not loaded") {
		t.Errorf("a device that is not there: %v", err)
	}
	f := usual()
	f.err = syscall.EIO
	if _, err := newDevice(f, "/dev/watchdog0", time.Minute); !errors.Is(err, syscall.EIO) || !f.closed {
		t.Errorf("a device that cannot be fed: %v, closed %v", err, f.closed)
	}
}

func TestBootReason(t *testing.T) {
	for status, want := range map[uint32]string{0: "", 0x20: "the watchdog reset the machine", 0x30: "the watchdog reset the machine, the voltage was too low", 0x8000: ""} {
		if got := BootReason(status); got != want {
			t.Errorf("%#x: %q, want %q", status, got, want)
		}
	}
	if !ByWatchdog(0x20) || ByWatchdog(0x10) {
		t.Error("ByWatchdog")
	}
}

// keeping runs a keeper over a fake device and a registry with one component that beats while alive is true.
type keeping struct {
	device   *fakeDevice
	registry *health.Registry
	beat     *health.Beat
	keeper   *Keeper
	stop     func()

	mu       sync.Mutex
	noted    []string
	cameBack int
}

func (k *keeping) records() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.noted
}

func (k *keeping) back() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cameBack
}

func keep(t *testing.T, change func(*Options)) *keeping {
	k := &keeping{device: usual(), registry: health.NewRegistry()}
	k.beat = k.registry.Component("devices", true, 20*time.Second)
	o := Options{
		Feeder: open(t, k.device, 30*time.Second), Wedged: k.registry.Wedged, Forgive: k.registry.Forgive, Log: slog.New(slog.DiscardHandler),
		Record: func(f []health.Fault) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.noted = append(k.noted, strings.Join(Reasons(f), "; "))
		},
		Recovered: func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.cameBack++
		},
	}
	if change != nil {
		change(&o)
	}
	k.keeper = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.keeper.Run(ctx) }()
	k.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return k
}

// live beats for d.
func (k *keeping) live(d time.Duration) {
	for range d / time.Second {
		k.beat.Alive()
		time.Sleep(time.Second)
	}
}

func TestFedWhileAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, nil)
		for range 600 {
			k.live(time.Second)
			if k.device.starved() {
				t.Fatal("the gateway was reset though all is well")
			}
		}
		if s := k.keeper.State(); s.Watchdog != "/dev/watchdog0 (fake)" || s.Timeout != "30s" || s.Fed.IsZero() || s.Wedged != nil {
			t.Errorf("state %+v", s)
		}
		k.stop()
		if k.device.running() || len(k.records()) != 0 {
			t.Errorf("runs on after an orderly stop: %v; records %q", k.device.running(), k.records())
		}
	})
}

func TestStarvedWhenWedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, nil)
		k.live(time.Minute)
		for begin := time.Now(); !k.device.starved(); {
			time.Sleep(time.Second)
			if s := time.Since(begin); s > 3*time.Minute {
				t.Fatal("the gateway is never reset")
			}
		}
		if len(k.records()) != 1 || !strings.Contains(k.records()[0], "devices has given no sign of life") {
			t.Errorf("records %q", k.records())
		}
		if s := k.keeper.State(); !s.Starving || len(s.Wedged) != 1 {
			t.Errorf("state %+v", s)
		}
		k.stop()
	})
}

func TestFedAgainWhenItComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, nil)
		time.Sleep(35 * time.Second) // wedged since 15 s, and the hardware waits for 30
		if len(k.records()) != 1 {
			t.Fatalf("records %q", k.records())
		}
		for range 120 {
			k.live(time.Second)
			if k.device.starved() {
				t.Fatal("reset though it came back in time")
			}
		}
		if s := k.keeper.State(); k.back() != 1 || s.Starving || s.Wedged != nil {
			t.Errorf("came back %d times, state %+v", k.back(), s)
		}
		k.stop()
	})
}

// A disk that hangs does not keep the gateway from being reset.
func TestRecordThatHangsIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		k := keep(t, func(o *Options) { o.Record = func([]health.Fault) { <-hang } })
		time.Sleep(2 * time.Minute)
		if !k.device.starved() {
			t.Error("not reset")
		}
		close(hang)
		k.stop()
	})
}

func TestPatienceBeforeTheNextReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, func(o *Options) { o.Patience = func() time.Duration { return 10 * time.Minute } })
		time.Sleep(10 * time.Minute)
		if k.device.starved() {
			t.Error("reset before its patience was over")
		}
		if s := k.keeper.State(); len(s.Wedged) != 1 || s.Starving || len(k.records()) != 1 {
			t.Errorf("state %+v, records %q", s, k.records())
		}
		time.Sleep(2 * time.Minute)
		if !k.device.starved() {
			t.Error("not reset after its patience was over")
		}
		k.stop()
	})
}

func TestStaysArmedWhenTheMachineGoesDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, func(o *Options) { o.KeepArmed = func() bool { return true } })
		k.live(time.Minute)
		k.stop()
		if !k.device.running() {
			t.Error("disarmed while the machine goes down")
		}
	})
}

func TestWithoutWatchdogAWedgeIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(t, func(o *Options) { o.Feeder = nil })
		time.Sleep(time.Minute)
		if s := k.keeper.State(); len(k.records()) != 1 || len(s.Wedged) != 1 || s.Watchdog != "" || s.Starving {
			t.Errorf("records %q, state %+v", k.records(), s)
		}
		k.stop()
	})
}

// hearing is a service manager's socket.
func hearing(t *testing.T) (at string, next func() string) {
	at = filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return at, func() string {
		b := make([]byte, 1024)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestSystemdIsTold(t *testing.T) {
	at, next := hearing(t)
	env := map[string]string{"NOTIFY_SOCKET": at, "WATCHDOG_USEC": "30000000"}
	s, err := FromEnvironment(func(k string) string { return env[k] })
	if err != nil || !s.Watches() || s.Timeout() != 30*time.Second {
		t.Fatalf("%+v, %v", s, err)
	}
	for want, say := range map[string]func() error{
		"READY=1": s.Ready, "WATCHDOG=1": s.Feed, "STOPPING=1": s.Stopping, "STATUS=two lines": func() error { return s.Status("two\nlines") },
	} {
		if err := say(); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
}

func TestSystemdFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		socket, usec, pid string
		there, watches    bool
		wrong             string
	}{
		{"", "30000000", "", false, false, ""},
		{"/run/systemd/notify", "", "", true, false, ""},
		{"@abstract", "30000000", "", true, true, ""},
		{"/run/systemd/notify", "30000000", "1", true, false, ""}, // meant for another process
		{"/run/systemd/notify", "30s", "", true, false, "a number of microseconds"},
		{"/run/systemd/notify", "-1", "", true, false, "a number of microseconds"},
		{"notify", "", "", false, false, "an absolute path"},
	} {
		env := map[string]string{"NOTIFY_SOCKET": c.socket, "WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}
		s, err := FromEnvironment(func(k string) string { return env[k] })
		if (s != nil) != c.there || s.Watches() != c.watches || (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%+v: %+v, %v", c, s, err)
		}
	}
	var none *Systemd
	if err := none.Ready(); err != nil {
		t.Errorf("no service manager: %v", err)
	}
	gone := &Systemd{address: &net.UnixAddr{Name: filepath.Join(t.TempDir(), "none"), Net: "unixgram"}}
	if err := gone.Feed(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a service manager that is gone: %v", err)
	}
}
