package regular

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSwappedFiles: a link that comes and goes where the file is does not lead anywhere.
func TestSwappedFiles(t *testing.T) {
	dir := t.TempDir()
	log, other, secret := filepath.Join(dir, "0.log"), filepath.Join(dir, "other"), filepath.Join(dir, "secret")
	for path, text := range map[string]string{log: "log", secret: "secret"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, other); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var swaps sync.WaitGroup
	swaps.Go(func() {
		for ctx.Err() == nil {
			_ = unix.Renameat2(unix.AT_FDCWD, log, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
		}
	})
	defer swaps.Wait()
	defer cancel()
	opened := 0
	for range 20_000 {
		f, info, err := Open(log)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(f)
		_ = f.Close()
		if opened++; err != nil || string(text) != "log" || info.Size() != 3 {
			t.Fatalf("%q, %v", text, err)
		}
	}
	if opened == 0 {
		t.Error("the file was never opened")
	}
}

// TestOthers: what is no file is not read, and does not hold the reader.
func TestOthers(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir, "/dev/null", filepath.Join(dir, "none")} {
		if _, _, err := Open(path); err == nil {
			t.Errorf("%s was opened", path)
		}
	}
	f, err := open(pipe) // as one that has just become a pipe
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}
