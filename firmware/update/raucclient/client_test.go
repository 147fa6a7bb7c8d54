package raucclient

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rauc writes a command that says text and ends with a status.
func rauc(t *testing.T, text string, status string) Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rauc")
	script := "#!/bin/sh\ncat <<'END'\n" + text + "\nEND\nexit " + status + "\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	return Client{Command: "/bin/sh", Args: []string{path}}
}

func TestInspect(t *testing.T) {
	c := rauc(t, "rauc-Message: Reading bundle\nRAUC_MF_COMPATIBLE='skerry-qemu-armv7'\nRAUC_MF_VERSION='1.2.3'\nRAUC_MF_BUILD='x'", "0")
	compatible, version, err := c.Inspect(t.Context(), "/bundle")
	if compatible != "skerry-qemu-armv7" || version != "1.2.3" || err != nil {
		t.Errorf("Inspect gives %q, %q, %v", compatible, version, err)
	}
	if _, _, err := rauc(t, "nothing", "0").Inspect(t.Context(), "/bundle"); err == nil {
		t.Error("a bundle without a manifest was accepted")
	}
	_, _, err = rauc(t, "Verifying\nsignature verification failed: Verify error: self-signed certificate", "1").Inspect(t.Context(), "/bundle")
	if err == nil || !strings.Contains(err.Error(), "signature verification failed") || strings.Contains(err.Error(), "Verifying") {
		t.Errorf("a bad signature gives %v", err)
	}
}

func TestInstall(t *testing.T) {
	var seen []int
	err := rauc(t, "installing\n  0% Installing\n 20% Checking bundle\n100% Installing done.\n"+strings.Repeat("x", 3*maxLine)+"\nInstalling `/bundle` succeeded", "0").Install(t.Context(), "/bundle", func(n int) { seen = append(seen, n) })
	if err != nil || !slices.Equal(seen, []int{0, 20, 100}) {
		t.Errorf("Install gives %v, progress %v", err, seen)
	}
	err = rauc(t, " 40% Copying\nLastError: Installation error: No space left on device\nInstalling failed", "1").Install(t.Context(), "/bundle", func(int) {})
	if err == nil || !strings.Contains(err.Error(), "rauc install: Installation error: No space left on device") {
		t.Errorf("a failed installation gives %v", err)
	}
	if strings.Contains(err.Error(), "altered") {
		t.Errorf("a full disk is told as %v", err)
	}
	err = rauc(t, " 40% Copying\nLastError: Installation error: Failed updating slot rootfs.1: Failed splicing data: Error reading from file: Input/output error\nInstalling failed", "1").Install(t.Context(), "/bundle", func(int) {})
	if err == nil || !strings.Contains(err.Error(), "was altered or damaged after it was signed") {
		t.Errorf("a bundle with a block that is not the signed one gives %v", err)
	}
	if err := (Client{Command: "/no/such/rauc"}).Install(t.Context(), "/bundle", func(int) {}); err == nil {
		t.Error("RAUC is not there, and the installation is done")
	}
}

func TestBusy(t *testing.T) {
	for name, c := range map[string]struct {
		says   string
		status string
		busy   bool
		last   string
		err    string
	}{
		"idle":              {"s \"idle\"\ns \"\"", "0", false, "", ""},
		"installing":        {"s \"installing\"\ns \"\"", "0", true, "", ""},
		"failed before":     {"s \"idle\"\ns \"Failed to \\\"mount\\\": no space\"", "0", false, `Failed to "mount": no space`, ""},
		"not there":         {"Failed to get property Operation: The name is not activatable", "1", false, "", "not activatable"},
		"something else":    {"s \"sleeping\"\ns \"\"", "0", false, "", "sleeping"},
		"nothing":           {"", "0", false, "", "it answers"},
		"another type":      {"u 5\ns \"\"", "0", false, "", "it answers"},
		"without end":       {strings.Repeat("x", 3*maxLine), "0", false, "", "it answers"},
		"only one property": {"s \"idle\"", "0", false, "", "it answers"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "busctl")
			script := "#!/bin/sh\ncat <<'END'\n" + c.says + "\nEND\nexit " + c.status + "\n"
			if err := os.WriteFile(path, []byte(script), 0o700); err != nil { //nolint:gosec // it is to be run
				t.Fatal(err)
			}
			busy, last, err := Client{Bus: path}.Busy(t.Context())
			if busy != c.busy || last != c.last || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("Busy gives %v, %q, %v", busy, last, err)
			}
		})
	}
}
