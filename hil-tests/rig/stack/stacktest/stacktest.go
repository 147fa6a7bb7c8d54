// Package stacktest starts a stack for a test and ends it with the test.
//
//	s := stacktest.Start(t, stack.Options{NoPods: true})
//	stacktest.Eventually(t, 10*time.Second, "the agent is connected", func() (bool, string) { … })
//
// Or for all tests of a package:
//
//	func TestMain(m *testing.M) { os.Exit(stacktest.Main(m, stack.Options{}, func(ctx context.Context, s *stack.Stack) error { … })) }
//
// The binaries are those in $SKERRY_BIN, or in build/bin of the checkout. For one goroutine, as testing.T is.
package stacktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// Bin returns the folder of the binaries. Tests run in their package's folder, which is two below the checkout's root.
func Bin() string {
	if bin := os.Getenv("SKERRY_BIN"); bin != "" {
		return bin
	}
	return filepath.Join("..", "..", "build", "bin")
}

// options adds to o where the binaries and the checkout are.
func options(o stack.Options) (stack.Options, error) {
	if !o.NoPods && os.Geteuid() != 0 {
		return o, errors.New("containers need root")
	}
	module, err := filepath.Abs(filepath.Join("..", ".."))
	o.Bin, o.Module = Bin(), module
	return o, err
}

// shown is how much of each log a test that failed shows, bytes.
const shown = 8000

// logs are the ends of the logs of everything that runs, or has run, in s.
func logs(s *stack.Stack) string {
	files, _ := filepath.Glob(filepath.Join(s.Logs(), "*.log"))
	var text strings.Builder
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			fmt.Fprintf(&text, "%s:\n%s\n", filepath.Base(file), b[max(0, len(b)-shown):])
		}
	}
	return text.String()
}

// Start starts a stack, whose Bin, Module and Say it sets. A test that failed shows the ends of the logs.
func Start(t *testing.T, o stack.Options) *stack.Stack {
	t.Helper()
	o, err := options(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Say = t.Logf
	s, err := stack.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs(s))
		}
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout) // the test's own has ended
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Eventually waits until check reports true, for limit at most; then the test ends with what check last saw.
func Eventually(t *testing.T, limit time.Duration, what string, check func() (ok bool, saw string)) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		ok, saw := check()
		if ok {
			t.Logf("%s after %v", what, time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("not within %v: %s; last seen: %s", limit, what, saw)
		}
	}
}
