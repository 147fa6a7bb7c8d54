// Package stacktest starts a stack for a test and ends it with the test.
//
//	s := stacktest.Start(t, stack.Options{NoPods: true})
//	stacktest.Eventually(t, 10*time.Second, "the agent is connected", func() (bool, string) { … })
//
// The binaries are those in $SKERRY_BIN, or in build/bin of the checkout. For one goroutine, as testing.T is.
package stacktest

import (
	"context"
	"os"
	"path/filepath"
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

// module is the checkout's root, seen from a test's folder.
func module(t *testing.T) string {
	path, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// shown is how much of the logs of agent and relay a test that failed shows, bytes.
const shown = 8000

// Start starts a stack, whose Bin, Module and Say it sets. A test that failed shows the ends of the logs of agent and relay.
func Start(t *testing.T, o stack.Options) *stack.Stack {
	t.Helper()
	o.Bin, o.Module, o.Say = Bin(), module(t), t.Logf
	s, err := stack.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, name := range []string{"skerryd", "relay"} {
			if b, err := os.ReadFile(filepath.Join(s.Dir, "logs", name+".log")); err == nil && t.Failed() {
				t.Logf("%s:\n%s", name, b[max(0, len(b)-shown):])
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own has ended
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
