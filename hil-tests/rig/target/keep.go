package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// stateCommands are what Keep asks QEMU's monitor: the screenshot of a machine without a screen.
var stateCommands = []string{"info status", "info registers", "info cpus", "info block", "info network", "info usernet", "info usb", "info chardev", "info qtree"}

// Keep implements Target: console, state, what QEMU said, and the disk.
func (m *machine) Keep(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder of what is kept: %w", err)
	}
	var state strings.Builder
	fmt.Fprintf(&state, "running: %v, switched on %d times\n", m.running(), m.starts)
	for _, line := range m.events.lines() {
		fmt.Fprintf(&state, "event %s\n", line)
	}
	if m.running() {
		for _, c := range stateCommands {
			text, err := m.qmp.human(ctx, c)
			if err != nil {
				text = err.Error()
			}
			fmt.Fprintf(&state, "\n# %s\n%s", c, text)
		}
	}
	errs := []error{os.WriteFile(filepath.Join(dir, "machine.txt"), []byte(state.String()), 0o644)}
	files := []string{m.console.Transcript(), m.debug.Transcript(), m.path("qemu.log")}
	if m.disk != "" {
		files = append(files, m.disk)
	}
	return errors.Join(append(errs, keepFiles(ctx, dir, files))...)
}

func keepFiles(ctx context.Context, dir string, files []string) error {
	var errs []error
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			errs = append(errs, copyFile(ctx, f, filepath.Join(dir, filepath.Base(f))))
		}
	}
	return errors.Join(errs...)
}
