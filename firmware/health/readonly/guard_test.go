package readonly

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// gateway is a machine whose disk may become read-only.
type gateway struct {
	t      *testing.T
	dir    string
	boots  int
	forced []bool
	states []State
}

// start runs a Guard until the machine is restarted, or for so long; the disk is read-only from then on. It returns after how long it was restarted, 0 if it was not.
func (g *gateway) start(readOnlyAt, most time.Duration, orderly bool) time.Duration {
	g.t.Helper()
	g.boots++
	return g.run(fmt.Sprint("boot-", g.boots), readOnlyAt, most, orderly)
}

func (g *gateway) run(boot string, readOnlyAt, most time.Duration, orderly bool) time.Duration {
	g.t.Helper()
	began := time.Now()
	before := g.content()
	ctx, cancel := context.WithTimeout(g.t.Context(), most)
	defer cancel()
	restarted := time.Duration(0)
	ro := func() bool { return time.Since(began) >= readOnlyAt }
	guard := New(Options{
		Dir: g.dir, Boot: boot, Changed: func(s State) { g.states = append(g.states, s) },
		ReadOnly:  func() (bool, error) { return ro(), nil },
		GoingDown: func() bool { return orderly },
		Restart: func(_ context.Context, force bool) error {
			g.forced = append(g.forced, force)
			restarted = time.Since(began)
			cancel()
			return nil
		},
	})
	at := g.content()
	if err := guard.Run(ctx); err != nil {
		g.t.Fatal(err)
	}
	if readOnlyAt == 0 {
		at = before // nothing can be written
	}
	if readOnlyAt == 0 || restarted > 0 || !orderly { // what is written at the end is not
		if err := os.WriteFile(filepath.Join(g.dir, fileName), at, 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
	return restarted
}

func (g *gateway) content() []byte {
	b, err := os.ReadFile(filepath.Join(g.dir, fileName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		g.t.Fatal(err)
	}
	return b
}

func (g *gateway) says(text string) {
	g.t.Helper()
	if n := len(g.states); n == 0 || !g.states[n-1].ReadOnly || !strings.Contains(g.states[n-1].Message, text) {
		g.t.Errorf("the state is %+v, want %q", g.states, text)
	}
}

const never = 1000 * time.Hour

// TestRestartsInARow: one after a minute, ten, an hour, and then the machine stays up and says so.
func TestRestartsInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{t: t, dir: t.TempDir()}
		for i, want := range pauses() {
			if got := g.start(time.Hour, never, true) - time.Hour; got < want || got > want+time.Minute {
				t.Errorf("restart %d came after %v, want %v", i, got, want)
			}
			g.says(fmt.Sprintf("restart %d of 3", i+1))
		}
		if got := g.start(time.Hour, never, true); got != 0 {
			t.Errorf("and another one after %v", got)
		}
		g.says("the machine stays up")
		g.says("exchange the disk")
		if len(g.forced) != MaxRestarts {
			t.Errorf("restarts: %v", g.forced)
		}
	})
}

// TestCountBeginsAnew after a day, and after an orderly end.
func TestCountBeginsAnew(t *testing.T) {
	for name, well := range map[string]func(*gateway){
		"a day":       func(g *gateway) { g.start(never, 25*time.Hour, true) },
		"orderly end": func(g *gateway) { g.start(never, time.Hour, true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gateway{t: t, dir: t.TempDir()}
				g.start(time.Hour, never, true)
				g.start(time.Hour, never, true)
				well(g)
				g.start(time.Hour, never, true)
				g.says("restart 1 of 3")
			})
		})
	}
}

// TestAgentRestarts in one boot: it counts once, read-only or not.
func TestAgentRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{t: t, dir: t.TempDir()}
		g.start(time.Hour, never, true)
		for range 10 {
			g.run("boot-2", never, time.Minute, false)
		}
		if got := g.run("boot-2", 0, never, true); got < pauses()[1] || got > pauses()[1]+time.Minute {
			t.Errorf("restarted after %v, want %v", got, pauses()[1])
		}
	})
}

// TestUncountedRestartIsNotMade: a disk that is read-only before the agent has written anything in this boot would be restarted for ever.
func TestUncountedRestartIsNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{t: t, dir: filepath.Join(t.TempDir(), "file", "dir")}
		if err := os.WriteFile(filepath.Dir(g.dir), nil, 0o600); err != nil { // nothing can be made below it
			t.Fatal(err)
		}
		guard := New(Options{Dir: g.dir, Boot: "boot", ReadOnly: func() (bool, error) { return true, nil }, Changed: func(s State) { g.states = append(g.states, s) }, Restart: func(context.Context, bool) error {
			t.Error("it is restarted")
			return nil
		}})
		ctx, cancel := context.WithTimeout(t.Context(), never)
		defer cancel()
		if err := guard.Run(ctx); err != nil {
			t.Fatal(err)
		}
		g.says("before this start could be counted")
	})
}

// TestRestartThatHangs is forced.
func TestRestartThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{t: t, dir: t.TempDir()}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		guard := New(Options{Dir: g.dir, Boot: "boot", ReadOnly: func() (bool, error) { return true, nil }, Restart: func(_ context.Context, force bool) error {
			if g.forced = append(g.forced, force); force {
				cancel()
				return nil
			}
			return errors.New("systemctl hangs")
		}})
		if err := guard.Run(ctx); err != nil || len(g.forced) != 2 || g.forced[0] || !g.forced[1] {
			t.Errorf("%v, restarts %v", err, g.forced)
		}
	})
}

// TestNobodyRestarts: where no check comes with a start, it is told, and that is all.
func TestNobodyRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{t: t, dir: t.TempDir()}
		guard := New(Options{Dir: g.dir, Boot: "boot", ReadOnly: func() (bool, error) { return true, nil }, Changed: func(s State) { g.states = append(g.states, s) }})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := guard.Run(ctx); err != nil {
			t.Fatal(err)
		}
		g.says("check it with fsck")
		if s := guard.State(); !s.ReadOnly || s.Since.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

func TestDamagedCount(t *testing.T) {
	for _, text := range []string{"", "{", `{"boot":7}`, strings.Repeat(" ", maxFile+1)} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if g := New(Options{Dir: dir, Boot: "boot"}); !g.counted || g.rec.Cut != 0 {
			t.Errorf("%.10q: %+v", text, g.rec)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"boot":"x","cut":2,"open":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), fileName)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := read(path); err == nil && (r.Cut < 0 || r.Cut > MaxRestarts) {
			t.Fatalf("%+v", r)
		}
	})
}

func TestLook(t *testing.T) {
	dir := t.TempDir()
	mounts := filepath.Join(dir, "mounts")
	for text, want := range map[string]bool{
		"/dev/x / ext4 rw 0 0\n": false,
		"/dev/x / ext4 rw 0 0\n/dev/y " + dir + " ext4 rw,emergency_ro,noatime 0 0\n":    true,
		"/dev/x / ext4 rw,emergency_ro 0 0\n/dev/y " + dir + " ext4 rw 0 0\n":            false,
		"/dev/y " + dir + " ext4 rw,emergency_ro 0 0\n/dev/z " + dir + " tmpfs rw 0 0\n": false,
		"/dev/y " + dir + "x ext4 rw,emergency_ro 0 0\n":                                 false,
		"garbage\n": false,
	} {
		if err := os.WriteFile(mounts, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Look(filepath.Join(dir), mounts)(); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	if _, err := Look(filepath.Join(dir, "none"), mounts)(); err == nil {
		t.Error("a folder that is not there is writable")
	}
}
