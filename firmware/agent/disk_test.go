package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/health/readonly"
)

// TestReadOnlyDisk: the node's condition says so, and when the machine restarts.
func TestReadOnlyDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{log: slog.New(slog.DiscardHandler), started: time.Now()}
		if got := a.disk.conditions(); got != nil {
			t.Errorf("an agent that does not look at its disk says %+v", got)
		}
		began, restarts := time.Now(), 0
		a.disk.since = a.started
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		a.disk.guard = readonly.New(readonly.Options{
			Dir: t.TempDir(), Boot: "boot", Changed: a.diskChanged, ReadOnly: func() (bool, error) { return time.Since(began) > time.Hour, nil },
			Restart: func(context.Context, bool) error { restarts++; cancel(); return nil },
		})
		done := make(chan error)
		go func() { done <- a.disk.guard.Run(ctx) }()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if c := a.disk.conditions()[0]; c.Type != "SkerryDiskReadOnly" || c.Status != "False" || a.disk.guard.Restarts() {
			t.Errorf("a disk that takes writes: %+v", c)
		}
		time.Sleep(30*time.Minute + 20*time.Second)
		synctest.Wait()
		if c := a.disk.conditions()[0]; c.Status != "True" || c.Reason != "ReadOnly" || !strings.Contains(c.Message, "restarts in 1m0s") || !a.disk.guard.Restarts() {
			t.Errorf("a disk that takes none: %+v", c)
		}
		if err := <-done; err != nil || restarts != 1 {
			t.Errorf("%v, %d restarts", err, restarts)
		}
	})
}

// TestOnlyImagesAreRestarted: elsewhere nobody knows whether a start checks the disk.
func TestOnlyImagesAreRestarted(t *testing.T) {
	for cmdline, want := range map[string]bool{"root=/dev/sda1 quiet": false, "console=ttyS0 skerry.slot=A rauc.slot=A": true} {
		root, data := t.TempDir(), t.TempDir()
		for name, text := range map[string]string{"proc/cmdline": cmdline, "proc/sys/kernel/random/boot_id": "id\n", "proc/self/mounts": "/dev/x " + data + " ext4 rw,emergency_ro 0 0\n"} {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a := &Agent{log: slog.New(slog.DiscardHandler), cfg: config.Config{DataDir: data}, started: time.Now()}
		a.newDisk(root)
		if got := a.disk.guard.Restarts(); got != want {
			t.Errorf("%q: restarts %v, want %v", cmdline, got, want)
		}
	}
}
