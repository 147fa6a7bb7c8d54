package board

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Facts is what a machine says of itself. Empty or zero: the machine does not tell.
type Facts struct {
	MachineID     string // /etc/machine-id, machine-id(5)
	SystemUUID    string // DMI's product_uuid, or the serial number of the device tree; MachineID where there is neither
	BootID        string // changes with every boot
	KernelVersion string // as uname -r
	OSImage       string // PRETTY_NAME of os-release(5)
	Model         string // the device tree's or DMI's name of the board
	Architecture  string // in Go's and Kubernetes' spelling: arm, arm64, amd64
	CPUs          int
	MemoryBytes   int64 // MemTotal
}

// Describe reads this machine's facts.
func Describe() Facts { return describe("/") }

func describe(root string) Facts {
	f := Facts{
		MachineID:     first(root, "etc/machine-id", "var/lib/dbus/machine-id"),
		BootID:        first(root, "proc/sys/kernel/random/boot_id"),
		KernelVersion: first(root, "proc/sys/kernel/osrelease"),
		SystemUUID:    first(root, "sys/class/dmi/id/product_uuid", "proc/device-tree/serial-number"),
		Model:         first(root, "proc/device-tree/model", "sys/class/dmi/id/product_name"),
		OSImage:       assignments(root, "PRETTY_NAME", "etc/os-release", "usr/lib/os-release"),
		Architecture:  runtime.GOARCH,
		CPUs:          runtime.NumCPU(),
	}
	if f.SystemUUID == "" {
		f.SystemUUID = f.MachineID
	}
	f.MemoryBytes = MemoryTotal(root)
	return f
}

// first returns the trimmed content of the first file that is there and not empty.
func first(root string, paths ...string) string {
	for _, p := range paths {
		b, err := os.ReadFile(filepath.Join(root, p))
		// Strings in the device tree end with a zero byte.
		if s := strings.Trim(string(b), " \t\r\n\x00"); err == nil && s != "" {
			return s
		}
	}
	return ""
}

// assignments returns the value of name in the first of the shell-like files that has it.
func assignments(root, name string, paths ...string) string {
	for _, p := range paths {
		for line := range strings.Lines(first(root, p)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
				return strings.Trim(v, `"'`)
			}
		}
	}
	return ""
}

// MemoryTotal returns MemTotal of the /proc below root in bytes; 0 if it does not tell.
func MemoryTotal(root string) int64 {
	f, err := os.Open(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		words := strings.Fields(s.Text())
		if len(words) >= 2 && words[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}
