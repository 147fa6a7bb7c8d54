//go:build linux

package pods

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/wire"
)

// TestNobodyWaitsForTheFlash: while a file of a pod is being read, which may take long, the manager answers others. The file is a named pipe: who reads
// it has begun when it can be opened for writing, and goes on when it is closed.
func TestNobodyWaitsForTheFlash(t *testing.T) {
	for name, read := range map[string]func(ctx context.Context, m *Manager){
		"a pod that is desired": func(ctx context.Context, m *Manager) { m.assign(ctx, "u1", wire.Object{Key: podKey}) },
		"a pod that is not":     func(ctx context.Context, m *Manager) { m.startUnwanted(ctx, "u1") },
	} {
		t.Run(name, func(t *testing.T) {
			desired := &fakeDesired{objects: map[wire.Key]wire.Object{}}
			w := new(world)
			m, err := New(Options{
				Node: "gw-1", Runtime: newFakeRuntime(), Desired: desired, Watch: desired.watch, Reports: w, Events: w,
				Dir: filepath.Join(t.TempDir(), "pods"), LogDir: t.TempDir(),
			})
			if err != nil {
				t.Fatal(err)
			}
			m.rt.err = errFakeDown
			m.statics, m.images = newStatics(m), newImageKeeper(m)
			pipe := filepath.Join(m.podDir("u1"), statusFile)
			if err := os.MkdirAll(filepath.Dir(pipe), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			m.wg.Go(func() { read(ctx, m) })
			f, err := os.OpenFile(pipe, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !m.mu.TryLock() {
				t.Error("whoever asks the manager waits until the file is read")
			} else {
				m.mu.Unlock()
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			cancel()
			m.wg.Wait()
		})
	}
}
