package scenarios_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/hil-tests/scenarios"
)

func TestPutFilesRefusesWhatIsNoDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := scenarios.PutFiles(t.Context(), path, "provision", nil); err == nil || !strings.Contains(err.Error(), "no GUID partition table") {
		t.Errorf("%v", err)
	}
}

func TestStick(t *testing.T) {
	if _, err := exec.LookPath("mformat"); err != nil {
		t.Log("mtools is not installed: make hil installs it, and plays this for real")
		return
	}
	dir := t.TempDir()
	from, stick := filepath.Join(dir, "content"), filepath.Join(dir, "stick.img")
	if err := os.WriteFile(from, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := scenarios.Stick(t.Context(), stick, 64, map[string]string{"skerry-hello.txt": from}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("mtype", "-i", stick+"@@1048576", "::/skerry-hello.txt").Output()
	if err != nil || string(out) != "hello" {
		t.Errorf("%q, %v", out, err)
	}
}
