package pods

import (
	"os"
	"path/filepath"
	"testing"
)

// TestProcesses: a machine can have as many processes as the lower of the kernel's two limits says.
func TestProcesses(t *testing.T) {
	proc := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(proc, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("meminfo", "MemTotal: 131072 kB\nMemAvailable: 65536 kB\n")
	write("loadavg", "0.00 0.01 0.05 2/345 6789\n")
	write("sys/kernel/pid_max", "32768\n")
	for threads, want := range map[string]int64{"": 32768, "1007\n": 1007, "126000\n": 32768} {
		if threads != "" {
			write("sys/kernel/threads-max", threads)
		}
		v, err := LocalMachine{Dir: proc, Proc: proc}.Measure()
		if err != nil || v.PIDsMax != want || v.PIDs != 345 || v.MemoryAvailable != 64<<20 {
			t.Errorf("threads-max %q: %+v, %v", threads, v, err)
		}
		_ = os.Remove(filepath.Join(proc, "sys/kernel/threads-max"))
	}
}
