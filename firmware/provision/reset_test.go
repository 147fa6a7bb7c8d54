package provision

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/skerry/skerry/board/initrd"
)

func TestRequestReset(t *testing.T) {
	root := t.TempDir()
	if err := RequestReset(root, "/var/lib/skerry", false); !errors.Is(err, ErrNoImage) {
		t.Errorf("%v", err)
	}
	if err := os.MkdirAll(filepath.Join(root, "usr/lib/skerry"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/skerry/image.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for keep, want := range map[bool]string{false: initrd.ResetAll, true: initrd.ResetKeepIdentity} {
		if err := RequestReset(root, "/var/lib/skerry", keep); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(root, "var/lib/skerry", initrd.ResetRequest)); err != nil || string(b) != want+"\n" {
			t.Errorf("%q, %v; want %q", b, err, want)
		}
	}
}
