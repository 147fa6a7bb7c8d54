package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/health"
	"github.com/skerry/skerry/firmware/health/journal"
	"github.com/skerry/skerry/firmware/health/watchdog"
)

func TestFaultConditionChangesOnlyWithTheFault(t *testing.T) {
	h := liveness{since: time.Unix(100, 0)}
	well := []health.State{{Name: "link"}, {Name: "store"}}
	c := h.condition(well, time.Unix(200, 0))
	if c.Type != "SkerryAgentFault" || c.Status != "False" || c.Reason != "AllAlive" || c.Message == "" || !c.LastTransitionTime.Equal(time.Unix(100, 0)) {
		t.Errorf("all well: %+v", c)
	}
	ill := []health.State{{Name: "link"}, {Name: "store", Trouble: "store has given no sign of life for 2m1s"}}
	first := h.condition(ill, time.Unix(300, 0))
	ill[1].Trouble = "store has given no sign of life for 2m11s"
	second := h.condition(ill, time.Unix(310, 0))
	if first.Status != "True" || first.Reason != "NotAlive" || first.Message != "store has given no sign of life for 2m1s" || !first.LastTransitionTime.Equal(time.Unix(300, 0)) || second.Message != first.Message || !second.LastTransitionTime.Equal(first.LastTransitionTime.Time) {
		t.Errorf("a fault: %+v, then %+v", first, second)
	}
	if c := h.condition(well, time.Unix(400, 0)); c.Status != "False" || !c.LastTransitionTime.Equal(time.Unix(400, 0)) {
		t.Errorf("well again: %+v", c)
	}
}

func testAgent(mode string, d *board.Descriptor) *Agent {
	a := &Agent{cfg: config.Config{Watchdog: config.Watchdog{Mode: mode, Stop: config.StopAuto}}, log: slog.New(slog.DiscardHandler)}
	a.board = board.Choice{Descriptor: d}
	return a
}

func TestWhichWatchdog(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "watchdog0") // it takes what is written, as a device does
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	own := &board.Descriptor{Name: "own", Watchdog: &board.Watchdog{Device: file, Timeout: 20 * time.Second}}
	env := map[string]string{"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "30000000"}
	s, err := watchdog.FromEnvironment(func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, mode string
		board      *board.Descriptor
		systemd    *watchdog.Systemd
		want       string // beginning of the feeder's name; "" none
		timeout    time.Duration
	}{
		{"systemd goes first", "auto", own, s, "systemd", 30 * time.Second},
		{"off", "off", own, s, "", 0},
		{"device though systemd would", "device", own, s, file, 20 * time.Second},
		{"systemd that does not watch", "systemd", own, nil, "", 0},
		{"device that is not there", "device", &board.Descriptor{Name: "own", Watchdog: &board.Watchdog{Device: filepath.Join(dir, "none")}}, nil, "", 0},
		{"board without one", "auto", &board.Descriptor{Name: "own"}, nil, "", 0},
	} {
		a := testAgent(c.mode, c.board)
		a.health.systemd = c.systemd
		f, err := a.chooseWatchdog()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		switch {
		case f == nil && c.want == "":
		case f == nil || c.want == "" || !strings.HasPrefix(f.String(), c.want) || f.Timeout() != c.timeout:
			t.Errorf("%s: %v, want %q", c.name, f, c.want)
		default:
			if err := f.Close(true); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	if _, err := testAgent("device", &board.Descriptor{Name: "bare"}).chooseWatchdog(); err == nil || !strings.Contains(err.Error(), "watchdog.device") {
		t.Errorf("mode device without a device: %v", err)
	}
	if why := testAgent("auto", &board.Descriptor{Name: "generic-armv7", Watchdog: &board.Watchdog{Device: file}}).leaveDevice(); why == "" {
		t.Error("the watchdog of a board that nobody knows is taken by itself")
	}
}

func TestArmedWhileTheMachineGoesDown(t *testing.T) {
	for _, c := range []struct {
		stop       string
		down, want bool
	}{{"auto", false, false}, {"auto", true, true}, {"keep", false, true}, {"disarm", true, false}} {
		a := testAgent("auto", nil)
		a.cfg.Watchdog.Stop = c.stop
		a.health.goingDown.Store(c.down)
		if got := a.keepArmed(); got != c.want {
			t.Errorf("stop %s, going down %v: armed %v", c.stop, c.down, got)
		}
	}
}

func TestReasonsOfEvents(t *testing.T) {
	for want, n := range map[string]journal.News{
		"Rebooted": {Boot: true, Reason: "power"}, "AgentCrashed": {Reason: journal.EndCrashed}, "AgentKilled": {Reason: journal.EndKilled},
		"AgentKilledForMemory": {Reason: journal.EndMemory}, "AgentWedged": {Reason: journal.EndWedged},
	} {
		if got := eventReason(n); got != want {
			t.Errorf("%+v: %s, want %s", n, got, want)
		}
	}
}

func TestRestartedTaskIsNotHealthy(t *testing.T) {
	b := newBeats()
	b.restarted("link", errors.New("panic: x"))
	b.restarted("history", errors.New("nobody watches it"))
	if ok, what := b.registry.Healthy(time.Now()); ok || len(what) != 1 || !strings.Contains(what[0], "link") {
		t.Errorf("%v %q", ok, what)
	}
}
