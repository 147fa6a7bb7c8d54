package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSuperviseRestartsWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		runs := map[string]int{}
		steady := 0
		supervise(ctx, slog.New(slog.NewTextHandler(&out, nil)), func(name string, _ error) { runs[name]++ },
			task{"panics", func(context.Context) error { panic("driver bug") }},
			task{"steady", func(ctx context.Context) error { steady++; <-ctx.Done(); return nil }},
		)
		if steady != 1 {
			t.Errorf("the steady task was started %d times, want 1", steady)
		}
		// Back-off doubles from 1 s to 1 min, so an hour holds its five short pauses and about 58 long ones (±50 % jitter).
		if n := runs["panics"]; n < 40 || n > 130 {
			t.Errorf("the panicking task was restarted %d times in an hour", n)
		}
		if runs["steady"] != 0 {
			t.Error("the steady task was counted as restarted")
		}
		if !strings.Contains(out.String(), "driver bug") {
			t.Error("the panic's text is not in the log")
		}
	})
}

func TestGuardedNamesSilentReturns(t *testing.T) {
	if err := guarded(t.Context(), func(context.Context) error { return nil }); err == nil {
		t.Error("a task that returns nil while the agent runs must count as a failure")
	}
	want := errors.New("x")
	if err := guarded(t.Context(), func(context.Context) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}
