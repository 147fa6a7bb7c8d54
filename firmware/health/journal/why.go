package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/firmware/health/watchdog"
	"github.com/skerry/skerry/firmware/kernellog"
)

func (j *Journal) root(path string) string { return filepath.Join(j.o.Root, path) }

// bootID is the kernel's number of this boot; "" if it has none.
func (j *Journal) bootID() string {
	b, err := readSome(j.root("proc/sys/kernel/random/boot_id"), 256)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// why finds out why the machine was started after the boot before.
func (j *Journal) why(before *Boot) (Reason, string) {
	end, wedged := "", ""
	if n := len(before.Runs); n > 0 {
		run := before.Runs[n-1]
		if end = run.End; end == EndWedged {
			wedged = run.Detail
		}
	}
	dump := j.keepPstore()
	status, known := j.bootStatus()
	hints := j.hints()
	with := func(text string) string { return strings.Join(append([]string{text}, hints...), "; ") }
	switch {
	case dump != "":
		return Panic, with("the kernel panicked: " + dump)
	case wedged != "":
		return Watchdog, with("the watchdog reset it, because " + wedged)
	case watchdog.ByWatchdog(status):
		return Watchdog, with("the watchdog reset it: the kernel, systemd or the agent did not feed it any more")
	case before.Planned != "":
		return Update, with(before.Planned)
	case end == EndStopped:
		return Shutdown, with("it was shut down or restarted in order")
	case known && status != 0:
		return Power, with(watchdog.BootReason(status))
	}
	return Power, with("its power failed, or its reset button was pressed: nothing was shut down before")
}

// bootStatus asks Linux what the watchdogs know (Documentation/ABI/testing/sysfs-class-watchdog).
func (j *Journal) bootStatus() (status uint32, known bool) {
	files, _ := filepath.Glob(j.root("sys/class/watchdog/watchdog*/bootstatus"))
	for _, f := range files {
		b, err := readSome(f, 64)
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 32)
		if err == nil {
			status, known = status|uint32(n), true
		}
	}
	return status, known
}

// hints are what boards say of their last reset by themselves: words, or a number for those who have the manual.
func (j *Journal) hints() []string {
	var out []string
	for _, h := range []struct{ pattern, name string }{
		{"sys/devices/platform/*/power_on_reason", "power-on reason"}, // Documentation/ABI/testing/sysfs-platform-power-on-reason
		{"sys/devices/platform/*/*/power_on_reason", "power-on reason"},
		{"sys/devices/platform/*/*/*/power_on_reason", "power-on reason"},
		{"sys/firmware/devicetree/base/chosen/bootloader/rsts", "PM_RSTS"}, // Raspberry Pi 4 and 5, big endian
	} {
		files, _ := filepath.Glob(j.root(h.pattern))
		for _, f := range files[:min(len(files), 2)] {
			b, err := readSome(f, 64)
			if err != nil || len(b) == 0 {
				continue
			}
			text := strings.TrimRight(string(b), "\x00\n ")
			if strings.HasSuffix(h.pattern, "rsts") {
				text = fmt.Sprintf("%#x", b)
			}
			out = append(out, "the board says: "+h.name+" "+text)
		}
	}
	return out
}

// keepPstore moves what the kernel's last words are out of pstore, whose room is small, and returns the line that says why it panicked; "" if it has not. The last lines of
// its console alone are no panic.
func (j *Journal) keepPstore() (headline string) {
	files, _ := filepath.Glob(j.root("sys/fs/pstore/*"))
	more, _ := filepath.Glob(j.root("var/lib/systemd/pstore/*/dmesg.txt")) // systemd-pstore.service was faster
	slices.Sort(files)
	kept := 0
	for _, f := range append(files, more...) {
		name := filepath.Base(f)
		if !strings.HasPrefix(name, "dmesg-") && name != "dmesg.txt" {
			continue
		}
		theirs := !strings.HasPrefix(name, "dmesg-")
		if theirs && j.known(f) || kept >= 2 {
			continue
		}
		b, err := readSome(f, CrashBytes)
		if err != nil || len(b) == 0 {
			continue
		}
		kept++
		j.dropOldCrashes(Crashes - 1)
		if err := durable.Replace(j.path(fmt.Sprintf("kernel-%d-%d.txt", len(j.boots)+1, kept)), b, 0o600); err != nil {
			j.o.Log.Warn("the kernel's last words could not be kept", "error", err)
			continue
		}
		if line := panicLine(string(b)); headline == "" {
			headline = line
		}
		if !theirs {
			_ = os.Remove(f)
		}
	}
	return headline
}

// known reports whether a dump of systemd's is older than the journal's last boot.
func (j *Journal) known(path string) bool {
	info, err := os.Stat(path)
	mine, merr := os.Stat(j.path(fileName))
	return err != nil || merr != nil || !info.ModTime().After(mine.ModTime())
}

// panicLine returns the line of a kernel's log that says what happened.
func panicLine(text string) string {
	for _, mark := range []string{"Kernel panic - not syncing", "Unable to handle kernel", "Internal error: Oops", "BUG:"} {
		for line := range strings.Lines(text) {
			if _, rest, ok := strings.Cut(line, mark); ok {
				return clip(strings.TrimSpace(mark+rest), 300)
			}
		}
	}
	return "see its dump"
}

// killedForMemory looks in the kernel's log for the end of a process.
func (j *Journal) killedForMemory(pid int) bool {
	mark := fmt.Sprintf("Killed process %d (", pid) // mm/oom_kill.c, __oom_kill_process
	for line := range kernellog.Lines(j.root("dev/kmsg")) {
		if strings.Contains(line, mark) {
			return true
		}
	}
	return false
}

// Console puts a line on the console, and into pstore's memory if there is some: for what no disk takes.
func (j *Journal) Console(text string) { j.tellKernel(text) }

// tellKernel puts a line where a reset does not lose it: into the kernel's log, which is on the console, and into pstore's own memory if there is some.
func (j *Journal) tellKernel(text string) {
	for _, f := range []struct{ path, text string }{{"dev/kmsg", "<2>skerryd: " + clip(text, 800) + "\n"}, {"dev/pmsg0", "skerryd: " + text + "\n"}} {
		if d, err := os.OpenFile(j.root(f.path), os.O_WRONLY, 0); err == nil {
			_, _ = d.WriteString(f.text)
			_ = d.Close()
		}
	}
}

// readSome reads the beginning of a file, at most limit bytes.
func readSome(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // paths are the package's own
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("is a folder")}
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
