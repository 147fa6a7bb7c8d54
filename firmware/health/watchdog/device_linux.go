package watchdog

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

type linuxDevice struct{ f *os.File }

func openCalls(path string) (calls, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // of the board's descriptor
	if err != nil {
		return nil, err
	}
	return linuxDevice{f}, nil
}

func (d linuxDevice) Write(b []byte) (int, error) { return d.f.Write(b) }
func (d linuxDevice) Close() error                { return d.f.Close() }

func (d linuxDevice) fd() int { return int(d.f.Fd()) } //nolint:gosec // a descriptor fits

func (d linuxDevice) info() (Info, error) {
	i, err := unix.IoctlGetWatchdogInfo(d.fd())
	if err != nil {
		return Info{}, os.NewSyscallError("WDIOC_GETSUPPORT", err)
	}
	name, _, _ := bytes.Cut(i.Identity[:], []byte{0})
	out := Info{Identity: string(name), Options: i.Options}
	if s, err := unix.IoctlGetInt(d.fd(), unix.WDIOC_GETBOOTSTATUS); err == nil {
		out.BootStatus = uint32(s) //nolint:gosec // bits
	}
	return out, nil
}

func (d linuxDevice) setTimeout(seconds int) error {
	return os.NewSyscallError("WDIOC_SETTIMEOUT", unix.IoctlSetPointerInt(d.fd(), unix.WDIOC_SETTIMEOUT, seconds))
}

func (d linuxDevice) timeout() (int, error) {
	s, err := unix.IoctlGetInt(d.fd(), unix.WDIOC_GETTIMEOUT)
	return s, os.NewSyscallError("WDIOC_GETTIMEOUT", err)
}

// noWayOut reads what Linux shows of the device in sysfs (Documentation/ABI/testing/sysfs-class-watchdog).
func (d linuxDevice) noWayOut() bool {
	name := filepath.Base(d.f.Name())
	if name == "watchdog" {
		name = "watchdog0"
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/class/watchdog/%s/nowayout", name)) //nolint:gosec // a name of /dev
	return err == nil && strings.TrimSpace(string(b)) == "1"
}
