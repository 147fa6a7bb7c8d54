package leds

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/board"
)

// cabinet is a folder of lights.
type cabinet struct {
	t    *testing.T
	root string
	log  bytes.Buffer
}

func newCabinet(t *testing.T, names ...string) *cabinet {
	c := &cabinet{t: t, root: t.TempDir()}
	for _, name := range names {
		dir := filepath.Join(c.root, "sys/class/leds", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"trigger": "none timer [heartbeat] mmc0\n", "brightness": "0\n", "max_brightness": "7\n", "delay_on": "", "delay_off": ""} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

func (c *cabinet) open(list ...board.LED) *Lights {
	return Open(c.root, list, slog.New(slog.NewTextHandler(&c.log, nil)))
}

// shows tells what a light does.
func (c *cabinet) shows(name string) string {
	c.t.Helper()
	get := func(file string) string {
		b, err := os.ReadFile(filepath.Join(c.root, "sys/class/leds", name, file))
		if err != nil {
			c.t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	if get("trigger") == "timer" {
		return get("delay_on") + "/" + get("delay_off")
	}
	return get("trigger") + " " + get("brightness")
}

func led(name, use string) board.LED {
	return board.LED{Name: name, Devices: []string{"not:" + name, name}, Use: use}
}

func TestStates(t *testing.T) {
	c := newCabinet(t, "s", "l", "f", "a")
	lights := c.open(led("s", "status"), led("l", "link"), led("f", "fault"), led("a", "activity"))
	for _, want := range []struct {
		look    Look
		s, l, f string
	}{
		{Look{State: Starting}, "100/100", "none 0", "none 0"},
		{Look{State: Connected}, "none 7", "none 7", "none 0"},
		{Look{State: CutOff}, "none 7", "500/500", "none 0"},
		{Look{State: Updating}, "250/250", "250/250", "none 0"},
		{Look{State: Connected, Fault: true}, "none 7", "none 7", "none 7"},
		{Look{State: CutOff, Fault: true}, "none 7", "500/500", "none 7"},
	} {
		lights.Show(want.look)
		if s, l, f := c.shows("s"), c.shows("l"), c.shows("f"); s != want.s || l != want.l || f != want.f {
			t.Errorf("%+v: status %q, link %q, fault %q", want.look, s, l, f)
		}
	}
	if got := c.shows("a"); got != "none timer [heartbeat] mmc0 0" {
		t.Errorf("the kernel's light was touched: %q", got)
	}
	lights.Restore()
	for _, name := range []string{"s", "l", "f"} {
		if got := c.shows(name); got != "heartbeat 0" {
			t.Errorf("%s was given back as %q", name, got)
		}
	}
	if c.log.Len() > 0 {
		t.Errorf("said: %s", &c.log)
	}
}

func TestOneLightShowsAll(t *testing.T) {
	c := newCabinet(t, "s")
	lights := c.open(led("s", "status"))
	for want, look := range map[string]Look{"100/100": {}, "none 7": {State: Connected}, "500/500": {State: CutOff}, "250/250": {State: Updating}, "100/1900": {State: CutOff, Fault: true}} {
		lights.Show(look)
		if got := c.shows("s"); got != want {
			t.Errorf("%+v: %q, want %q", look, got, want)
		}
	}
}

// A look that does not change touches nothing: others may write to a light meanwhile.
func TestOnlyChangesAreWritten(t *testing.T) {
	c := newCabinet(t, "s")
	lights := c.open(led("s", "status"))
	lights.Show(Look{State: Connected})
	at := filepath.Join(c.root, "sys/class/leds/s/brightness")
	if err := os.WriteFile(at, []byte("3"), 0o600); err != nil {
		t.Fatal(err)
	}
	lights.Show(Look{State: Connected})
	if got := c.shows("s"); got != "none 3" {
		t.Errorf("written again: %q", got)
	}
}

func TestMissingLightIsSaidOnce(t *testing.T) {
	c := newCabinet(t)
	optional := led("p", "fault")
	optional.Optional = true
	lights := c.open(led("s", "status"), optional)
	for range 3 {
		lights.Show(Look{State: Connected})
		lights.Show(Look{State: CutOff})
	}
	if n := strings.Count(c.log.String(), "level=WARN"); n != 1 || !strings.Contains(c.log.String(), "led=s") {
		t.Errorf("%d warnings: %s", n, &c.log)
	}
	lights.Restore()
}

func TestLightThatCannotBeSetIsSaidOnce(t *testing.T) {
	c := newCabinet(t, "s")
	lights := c.open(led("s", "status"))
	if err := os.RemoveAll(filepath.Join(c.root, "sys/class/leds/s")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		lights.Show(Look{State: Starting})
		lights.Show(Look{State: Connected})
	}
	if n := strings.Count(c.log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings: %s", n, &c.log)
	}
}
