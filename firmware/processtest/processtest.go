// Package processtest runs a test binary again, as a process of its own that may crash or be killed. It is for tests alone.
package processtest

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// Again returns a command that runs this test binary with args, through the emulator if it runs in one (scripts/test-arm.sh): the kernel cannot start a
// program of another architecture by itself.
func Again(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = exec.CommandContext(t.Context(), self, "-test.run=^$").Run()
	if err == nil {
		return exec.CommandContext(t.Context(), self, args...)
	}
	if !errors.Is(err, syscall.ENOEXEC) {
		t.Fatalf("running the test binary again: %v", err)
	}
	emulators := map[string]string{"arm": "qemu-arm-static", "arm64": "qemu-aarch64-static"}
	emulator, err := exec.LookPath(emulators[runtime.GOARCH])
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), emulator, append([]string{self}, args...)...)
}
