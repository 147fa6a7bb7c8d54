package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// step is one thing that the demo shows. run returns what was seen, as a short text, or why it does not hold.
type step struct {
	title string
	run   func(ctx context.Context, say func(format string, args ...any)) (seen string, err error)
}

const stepLimit = 3 * time.Minute

// show runs the steps in order and stops at the first that does not hold.
func show(ctx context.Context, out io.Writer, terminal bool, steps []step) error {
	for i, s := range steps {
		if err := showOne(ctx, out, terminal, fmt.Sprintf("%2d/%d", i+1, len(steps)), s); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.title, err)
		}
	}
	return nil
}

func showOne(ctx context.Context, out io.Writer, terminal bool, number string, s step) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	began := time.Now()
	details := make(chan string, 16)
	type result struct {
		seen string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		seen, err := s.run(ctx, func(format string, args ...any) {
			select {
			case details <- fmt.Sprintf(format, args...):
			default: // progress text may be lost, the step must not wait for a slow terminal
			}
		})
		done <- result{seen, err}
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	detail := ""
	for {
		select {
		case detail = <-details:
			if !terminal {
				fmt.Fprintf(out, "   …  %s: %s\n", s.title, detail)
			}
		case <-tick.C:
			if terminal {
				fmt.Fprintf(out, "\r\033[K   %s  %-62s %6.1f s  %s", number, s.title, time.Since(began).Seconds(), clip(detail, 60))
			}
		case r := <-done:
			mark, note := "✓", r.seen
			if r.err != nil {
				mark, note = "✗", r.err.Error()
			}
			if terminal {
				fmt.Fprint(out, "\r\033[K")
			}
			fmt.Fprintf(out, " %s %s  %-62s %6.1f s  %s\n", mark, number, s.title, time.Since(began).Seconds(), note)
			return r.err
		}
	}
}

func clip(s string, n int) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// poll calls check every interval until it reports true, fails for good (its error is not nil), or the context ends;
// then the error holds what check last saw.
func poll(ctx context.Context, interval time.Duration, check func() (ok bool, saw string, err error)) error {
	for {
		ok, saw, err := check()
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last seen: %s", ctx.Err(), saw)
		case <-time.After(interval):
		}
	}
}
