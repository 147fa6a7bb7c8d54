package board

import (
	"os"
	"path/filepath"
	"testing"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for p, content := range files {
		full := filepath.Join(root, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestDescribeDeviceTreeBoard(t *testing.T) {
	f := describe(tree(t, map[string]string{
		"etc/machine-id":                 "0123456789abcdef0123456789abcdef\n",
		"proc/sys/kernel/random/boot_id": "b007\n",
		"proc/sys/kernel/osrelease":      "6.1.0-39-armmp\n",
		"proc/device-tree/model":         "Toll Gateway 3\x00",
		"proc/device-tree/serial-number": "SN42\x00",
		"etc/os-release":                 "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"proc/meminfo":                   "MemTotal:         113836 kB\nMemFree: 1 kB\n",
	}))
	if f.MachineID != "0123456789abcdef0123456789abcdef" || f.BootID != "b007" || f.KernelVersion != "6.1.0-39-armmp" {
		t.Errorf("ids and kernel: %+v", f)
	}
	if f.Model != "Toll Gateway 3" || f.SystemUUID != "SN42" {
		t.Errorf("model %q, system UUID %q", f.Model, f.SystemUUID)
	}
	if f.OSImage != "Debian GNU/Linux 12 (bookworm)" {
		t.Errorf("OS image %q", f.OSImage)
	}
	if f.MemoryBytes != 113836<<10 || f.CPUs < 1 || f.Architecture == "" {
		t.Errorf("memory %d, CPUs %d, architecture %q", f.MemoryBytes, f.CPUs, f.Architecture)
	}
}

func TestDescribeBareMachine(t *testing.T) {
	f := describe(tree(t, map[string]string{"proc/meminfo": "MemTotal: many kB\n", "etc/os-release": "NAME=x\n"}))
	if f.MachineID != "" || f.SystemUUID != "" || f.OSImage != "" || f.MemoryBytes != 0 {
		t.Errorf("made-up facts: %+v", f)
	}
}

func TestSystemUUIDFallsBackToMachineID(t *testing.T) {
	if f := describe(tree(t, map[string]string{"etc/machine-id": "m1\n"})); f.SystemUUID != "m1" {
		t.Errorf("system UUID %q, want the machine id", f.SystemUUID)
	}
}
