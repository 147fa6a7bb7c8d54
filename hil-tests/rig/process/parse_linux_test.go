package process

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseRollup(t *testing.T) {
	const good = "55d0a000-7ffd3000 ---p 00000000 00:00 0    [rollup]\nRss:      1234 kB\nPss:       567 kB\nPss_Dirty:  12 kB\nAnonymous: 100 kB\nSwap: 8 kB\nSwapPss:  4 kB\n"
	m, err := parseRollup([]byte(good))
	if want := (Memory{RSS: 1234 << 10, PSS: 567 << 10, Anonymous: 100 << 10, SwapPSS: 4 << 10}); err != nil || m != want {
		t.Errorf("parseRollup = %+v, %v", m, err)
	}
	for name, bad := range map[string]string{
		"empty": "", "a zombie": "\n", "another unit": "Rss: 12 MB\nPss: 1 kB\n", "no number": "Rss: x kB\n", "no PSS": "Rss: 12 kB\n",
	} {
		if m, err := parseRollup([]byte(bad)); err == nil {
			t.Errorf("%s: no error, but %+v", name, m)
		}
	}
}

func TestPollTellsItsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		cause := errors.New("no route")
		var told []time.Duration
		err := Poll(ctx, "the node is ready", func(what string, waited time.Duration, last error) {
			if what != "the node is ready" || !errors.Is(last, cause) {
				t.Errorf("progress of %q: %v", what, last)
			}
			told = append(told, waited)
		}, func(context.Context) error { return cause })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Poll: %v", err)
		}
		if len(told) != 3 || told[0] != time.Second || told[2] != 3*time.Second {
			t.Errorf("told at %v", told)
		}
	})
}

func TestLastLines(t *testing.T) {
	for _, tc := range []struct {
		text string
		n    int
		want string
	}{
		{"", 3, ""}, {"\n\n", 3, ""}, {"a\n", 3, "a"}, {"a\nb\nc\n", 2, "b\nc"}, {"a\nb", 0, ""},
	} {
		if got := lastLines(tc.text, tc.n); got != tc.want {
			t.Errorf("lastLines(%q, %d) = %q, want %q", tc.text, tc.n, got, tc.want)
		}
	}
}

func TestParseStat(t *testing.T) {
	d, err := parseStat([]byte("42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 100 1000 200 18446744073709551615"))
	if err != nil || d != 3*time.Second {
		t.Errorf("%v, %v, want 3 s of utime 250 and stime 50", d, err)
	}
	for _, bad := range []string{"", "42 (a) S 1", "42 (a) S 1 42 42 0 -1 4194560 100 0 0 0 x 50 0"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestReadCPU(t *testing.T) {
	own, err := ReadCPU(os.Getpid())
	if err != nil || own < 0 {
		t.Fatalf("this process used %v: %v", own, err)
	}
	machine, err := MachineCPU()
	if err != nil || machine <= 0 || machine < own {
		t.Errorf("the machine used %v, this process %v: %v", machine, own, err)
	}
}
