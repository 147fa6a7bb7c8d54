package durable

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// TestReplace: content and mode are the new ones, whatever the umask and whatever a power cut has left.
func TestReplace(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path+Suffix, []byte("left by a power cut, and longer than what comes"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"first", "second, longer", ""} {
		if err := Replace(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != content {
			t.Errorf("%q, %v; want %q", b, err, content)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("in the folder: %v", got)
	}
}

// TestReplaceFails: the file is as before, nothing else is left, and the error names the path.
func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	if err := Replace(filepath.Join(dir, "no", "file"), nil, 0o600); !os.IsNotExist(err) {
		t.Errorf("without the folder: %v", err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(folder, "content"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(folder, []byte("x"), 0o600); err == nil || !bytes.Contains([]byte(err.Error()), []byte(folder)) {
		t.Errorf("over a folder: %v", err)
	}
	if got := names(t, dir); len(got) != 1 || got[0] != "folder" {
		t.Errorf("in the folder: %v", got)
	}
}

// TestReplaceByMany: they take turns; what readers see is always whole.
func TestReplaceByMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			content := bytes.Repeat([]byte{byte('a' + i)}, 1000*(i+1))
			for range 20 {
				if err := Replace(path, content, 0o600); err != nil {
					t.Error(err)
				}
				if b, err := os.ReadFile(path); err != nil || len(b)%1000 != 0 || !bytes.Equal(b, bytes.Repeat(b[:1], 1000*int(b[0]-'a'+1))) {
					t.Error(fmt.Errorf("read %d bytes, %w", len(b), err))
				}
			}
		})
	}
	wg.Wait()
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("in the folder: %v", got)
	}
}

func TestSyncDir(t *testing.T) {
	if err := SyncDir(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := SyncDir("/nonexistent"); !os.IsNotExist(err) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestMakeDir(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a", "b", "c")
	for range 2 {
		if err := MakeDir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(filepath.Join(file, "below"), 0o700); err == nil {
		t.Error("a folder below a file was made")
	}
}
