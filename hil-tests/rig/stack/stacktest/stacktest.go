// Package stacktest starts a stack for a test and ends it with the test.
//
//	s := stacktest.Start(t, stack.Options{NoPods: true})
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

// Start starts a stack, whose Bin and Say it sets.
func Start(t *testing.T, o stack.Options) *stack.Stack {
	t.Helper()
	o.Bin, o.Say = Bin(), t.Logf
	s, err := stack.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own has ended
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}
