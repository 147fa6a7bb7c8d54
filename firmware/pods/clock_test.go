package pods

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// TestBelievable: a pod that began in 1970, or whose node was a year ahead, is dated anew as soon as the gateway learns the time.
func TestBelievable(t *testing.T) {
	boot, now := time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC), time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	made := now.Add(-time.Hour)
	for name, c := range map[string]struct{ noted, created, now, want time.Time }{
		"1970 still":                {boot, time.Time{}, boot.Add(time.Hour), boot},
		"1970, and the clock set":   {boot, time.Time{}, now, now},
		"long ago":                  {now.AddDate(-3, 0, 0), time.Time{}, now, now.AddDate(-3, 0, 0)},
		"a moment ahead":            {now.Add(20 * time.Second), made, now, now.Add(20 * time.Second)},
		"a year ahead":              {now.AddDate(1, 0, 0), made, now, now},
		"before it was made":        {now.AddDate(-1, 0, 0), made, now, now},
		"the clock a bit behind":    {made.Add(-time.Minute), made, now, made.Add(-time.Minute)},
		"the clock behind by years": {now.AddDate(-2, 0, 0), made, now.AddDate(-2, 0, 1), now.AddDate(-2, 0, 0)},
	} {
		if got := startOf(&corev1.PodStatus{StartTime: corev1.NewTime(c.noted)}, corev1.NewTime(c.created), c.now); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if got := startOf(nil, nil, now); !got.Equal(now) {
		t.Errorf("a new pod began %v", got)
	}
}

// TestAge: what was dated before the clock was set has the least age that is possible.
func TestAge(t *testing.T) {
	dir, up, boot := t.TempDir(), time.Duration(0), "one"
	uptime := func() (string, time.Duration) { return boot, up }
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	old := now.AddDate(-1, 0, 0)
	c := openClocks(dir, uptime)
	look := func(at time.Time, want bool) {
		t.Helper()
		if by, known, err := c.look(at); err != nil || known != want || !known && by != 0 && len(c.Settings) < 2 {
			t.Fatalf("%v %v %v", by, known, err)
		}
	}
	look(old, false)
	up = 10 * time.Minute
	look(old.Add(up), true)
	if len(c.Settings) != 1 {
		t.Fatalf("ten minutes are taken for a step: %v", c.Settings)
	}
	look(now, true)             // set ahead by a year
	c = openClocks(dir, uptime) // and started again
	for name, x := range map[string]struct {
		at   time.Time
		want time.Duration
	}{
		"dated before": {old.Add(7 * time.Minute), 3 * time.Minute}, "dated since": {now.Add(-time.Second), time.Second}, "in the future": {now.Add(time.Hour), 0},
	} {
		if got := c.age(x.at, now); got != x.want {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
	for range 20 { // the list is bounded
		now = now.Add(time.Hour)
		look(now, true)
	}
	if len(c.Settings) != maxClocks {
		t.Errorf("%d settings", len(c.Settings))
	}
	boot = "two"
	look(now, false)
	if got := c.age(old, now); got != now.Sub(old) || len(c.Settings) != 1 {
		t.Errorf("after a reboot %v, %v", got, c.Settings)
	}
	if err := os.WriteFile(filepath.Join(dir, clocksFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c = openClocks(dir, uptime); c.age(old, now) != now.Sub(old) {
		t.Error("a damaged file is believed")
	}
	look(now, false)
}

// TestDeadlineAcrossBoots: within a boot the deadline counts by the time since the boot, and after a reboot by the wall clock.
func TestDeadlineAcrossBoots(t *testing.T) {
	simulate(t, func(w *world) {
		up, boot := time.Hour, "one"
		w.stop()
		w.o.Uptime = func() (string, time.Duration) { return boot, up }
		w.start()
		w.settle(time.Second)
		worker := &worker{m: w.m, uid: "u1", status: &corev1.PodStatus{StartTime: corev1.NewTime(time.Now().Add(-time.Minute))}}
		d := &desiredPod{}
		if err := os.MkdirAll(w.m.podDir("u1"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			up   time.Duration
			boot string
			want time.Duration
		}{{time.Hour, "one", time.Minute}, {2 * time.Hour, "one", time.Hour + time.Minute}, {time.Second, "two", time.Minute}, {time.Minute, "two", 2*time.Minute - time.Second}} {
			up, boot, worker.since = c.up, c.boot, time.Time{}
			if got := worker.active(d); got != c.want {
				t.Errorf("up for %v, boot %s: active for %v, want %v", c.up, c.boot, got, c.want)
			}
		}
	})
}
