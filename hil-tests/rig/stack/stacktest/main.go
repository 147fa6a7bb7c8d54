package stacktest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// stopTimeout is how long a stack may take to end.
const stopTimeout = time.Minute

// Main runs the tests of a package that share one stack, and returns the status for os.Exit. It starts a stack, whose Bin, Module and
// Say it sets; prepare brings it to where the tests begin, and keeps it for them. If anything failed it shows the ends of the logs.
// The stack ends with the tests, when the binary is interrupted, and before it reaches its own -timeout: a test binary that panics
// leaves containers behind.
func Main(m *testing.M, o stack.Options, prepare func(context.Context, *stack.Stack) error) int {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if f := flag.Lookup("test.timeout"); f != nil {
		if limit, err := time.ParseDuration(f.Value.String()); err == nil && limit > 0 {
			limited, cancel := context.WithTimeout(ctx, limit-stopTimeout-5*time.Second)
			defer cancel()
			ctx = limited
		}
	}
	s, err := begin(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the system did not start:", err)
		return 1
	}
	end := sync.OnceValue(func() int { return endShared(s) })
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-done:
		case <-ctx.Done():
			fmt.Fprintln(os.Stderr, "interrupted, or no time left: everything is removed")
			fmt.Fprint(os.Stderr, logs(s))
			end()
			os.Exit(1)
		}
	}()
	code := 1
	if err := prepare(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "the system did not get ready for the tests:", err)
	} else {
		code = m.Run()
	}
	if code != 0 {
		fmt.Fprint(os.Stderr, logs(s))
	}
	return max(code, end())
}

func begin(ctx context.Context, o stack.Options) (*stack.Stack, error) {
	o, err := options(o)
	if err != nil {
		return nil, err
	}
	o.Say = func(format string, args ...any) { fmt.Printf("# "+format+"\n", args...) }
	return stack.Start(ctx, o)
}

// endShared ends what Main has started, and returns the status of that.
func endShared(s *stack.Stack) int {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cleaning up:", err)
		return 1
	}
	return 0
}
