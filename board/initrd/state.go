package initrd

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// EtcState lists what of /etc is the machine's own and outlives a start, files and folders. Anything else that was written there is removed at the next
// start: else a file that somebody changed once would hide what every later image says.
func EtcState() []string {
	return []string{"machine-id", "hostname", "adjtime", "skerry", "systemd/network", "systemd/timesyncd.conf.d", "systemd/resolved.conf.d", "containerd/certs.d"}
}

// folders of the data partition that appear elsewhere: what systemd, the container runtime and RAUC keep.
func boundFolders() map[string]string {
	return map[string]string{
		"system/containerd": "var/lib/containerd", "system/log": "var/log/pods", "system/systemd": "var/lib/systemd", "system/rauc": "var/lib/rauc",
	}
}

// state lays the machine's state over /etc and binds folders of the data partition to their places.
func (m *Machine) state() error {
	data := filepath.Join(m.Root, dataMount)
	for from, to := range boundFolders() {
		from, to = filepath.Join(data, from), filepath.Join(m.Root, to)
		for _, d := range []string{from, to} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := m.Kernel.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", to, err)
		}
	}
	upper, work, lower := filepath.Join(data, "system/etc"), filepath.Join(data, "system/etc.work"), filepath.Join(m.Root, "etc")
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	kept := map[string]bool{}
	for _, p := range EtcState() {
		kept[p] = true
	}
	if err := wipe(upper, "", kept); err != nil {
		return fmt.Errorf("remove what is not the machine's from /etc: %w", err)
	}
	if err := machineID(filepath.Join(upper, "machine-id")); err != nil {
		return fmt.Errorf("make /etc/machine-id: %w", err)
	}
	if err := m.Kernel.Mount("overlay", lower, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("lay the machine's state over /etc: %w", err)
	}
	return nil
}

// machineID makes the file if it is not there or damaged.
func machineID(path string) error {
	if b, err := os.ReadFile(path); err == nil {
		if id := strings.TrimSpace(string(b)); len(id) == 32 && strings.Trim(id, "0123456789abcdef") == "" {
			return nil
		}
	}
	var id [16]byte
	if _, err := unix.Getrandom(id[:], 0); err != nil {
		return err
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // machine-id(5): the form of a random UUID
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o444)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(hex.EncodeToString(id[:]) + "\n"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	syncDir(filepath.Dir(path))
	return nil
}
