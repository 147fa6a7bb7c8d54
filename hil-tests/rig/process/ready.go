package process

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// PollEvery is how often Poll tries.
const PollEvery = 100 * time.Millisecond

// Progress is told, about once a second, what is waited for, for how long, and
// what the last attempt's error was. It must not block. Nil is allowed.
type Progress func(what string, waited time.Duration, last error)

// Poll calls try until it returns nil. what completes the sentence "wait
// until …" and is quoted in the error, with try's last error, if ctx ends
// first. try gets ctx and should not block much longer than PollEvery.
func Poll(ctx context.Context, what string, progress Progress, try func(context.Context) error) error {
	return poll(ctx, nil, what, progress, try)
}

// WaitReady is Poll for a child: it gives up as soon as the child has ended,
// and the error quotes the end of its log.
func WaitReady(ctx context.Context, p *Process, what string, progress Progress, try func(context.Context) error) error {
	err := poll(ctx, p.done, what, progress, try)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errEnded):
		return fmt.Errorf("%s ended (%s) before %s%s", p.Name(), p.status(), what, p.quoteLog())
	default:
		return fmt.Errorf("%s: %w%s", p.Name(), err, p.quoteLog())
	}
}

func (p *Process) status() string {
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

var errEnded = errors.New("the process has ended")

func poll(ctx context.Context, ended <-chan struct{}, what string, progress Progress, try func(context.Context) error) error {
	start := time.Now()
	told := start
	tick := time.NewTicker(PollEvery)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w (last: %w)", what, context.Cause(ctx), err)
		case now := <-tick.C:
			if progress != nil && now.Sub(told) >= time.Second {
				told = now
				progress(what, now.Sub(start).Round(time.Second), err)
			}
		}
	}
}
