package diagnose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/firmware/health/journal"
	"github.com/skerry/skerry/firmware/kernellog"
)

// Place is where a machine's sources look.
type Place struct {
	Root    string // below which proc, sys, dev and etc are; "/"
	DataDir string // of the agent
	Journal string // folder of the boot journal
	LogDir  string // of pods: the sizes alone
	Unit    string // of the agent, whose log systemd's journal may have; empty: it is not asked
}

// Machine are the sources that need no agent.
func Machine(p Place) []Source {
	out := []Source{
		{"versions.txt", p.versions},
		{"health/boots.json", p.file(filepath.Join(p.Journal, "boots.json"))},
	}
	for _, name := range journal.CrashFiles(p.Journal) {
		out = append(out, Source{"health/" + name, p.file(filepath.Join(p.Journal, name))})
	}
	for _, f := range []string{
		"proc/cmdline", "proc/mounts", "proc/meminfo", "proc/loadavg", "proc/uptime", "proc/partitions", "proc/diskstats", "proc/vmstat", "proc/interrupts", "proc/modules",
		"proc/net/dev", "proc/net/route", "proc/net/ipv6_route", "proc/pressure/cpu", "proc/pressure/memory", "proc/pressure/io", "etc/os-release",
	} {
		out = append(out, Source{"machine/" + strings.ReplaceAll(f, "/", "-") + ".txt", p.file(filepath.Join(p.Root, f))})
	}
	return append(out,
		Source{"machine/watchdogs.txt", p.watchdogs},
		Source{"machine/disks.txt", p.disks},
		Source{"machine/interfaces.txt", interfaces},
		Source{"machine/kernel.log", p.kernelLog},
		Source{"machine/files.txt", p.files},
		Source{"agent/systemd.log", p.unitLog},
	)
}

func (p Place) file(path string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		f, err := os.Open(path) //nolint:gosec // a list of this package's own
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // nothing was written
		_, err = io.Copy(w, f)
		return err
	}
}

func (p Place) versions(_ context.Context, w io.Writer) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	text := func(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
	_, err := fmt.Fprintf(w, "skerry %s, %s %s/%s\nkernel %s %s %s\ncollected %s by the gateway's clock, pid %d\n", skerry.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH,
		text(u.Release[:]), text(u.Version[:]), text(u.Machine[:]), time.Now().UTC().Format(time.RFC3339), os.Getpid())
	return err
}

func (p Place) watchdogs(_ context.Context, w io.Writer) error {
	dirs, _ := filepath.Glob(filepath.Join(p.Root, "sys/class/watchdog/*"))
	for _, dir := range dirs {
		fmt.Fprintf(w, "%s:", filepath.Base(dir))
		for _, name := range []string{"identity", "state", "status", "bootstatus", "timeout", "timeleft", "nowayout"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil { //nolint:gosec // a list of this package's own
				fmt.Fprintf(w, " %s=%s", name, strings.TrimSpace(string(b)))
			}
		}
		fmt.Fprintln(w)
	}
	return nil
}

// disks tells how full file systems are that are on disks, or in memory.
func (p Place) disks(ctx context.Context, w io.Writer) error {
	b, err := os.ReadFile(filepath.Join(p.Root, "proc/mounts"))
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	fmt.Fprintln(w, "MOUNT TYPE SIZE-KIB FREE-KIB INODES FREE-INODES")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 4 || ctx.Err() != nil || seen[f[0]+f[1]] || !strings.HasPrefix(f[0], "/dev/") && f[2] != "tmpfs" && f[2] != "overlay" {
			continue
		}
		seen[f[0]+f[1]] = true
		var s unix.Statfs_t
		if err := unix.Statfs(f[1], &s); err != nil {
			fmt.Fprintf(w, "%s %s: %v\n", f[1], f[2], err)
			continue
		}
		block := uint64(s.Bsize) //nolint:gosec,unconvert // its type differs by architecture
		fmt.Fprintf(w, "%s %s %d %d %d %d\n", f[1], f[2], s.Blocks*block>>10, s.Bavail*block>>10, s.Files, s.Ffree)
	}
	return nil
}

func interfaces(_ context.Context, w io.Writer) error {
	list, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range list {
		fmt.Fprintf(w, "%s %s mtu %d %s", i.Name, i.Flags, i.MTU, i.HardwareAddr)
		if addrs, err := i.Addrs(); err == nil {
			for _, a := range addrs {
				fmt.Fprintf(w, " %s", a)
			}
		}
		fmt.Fprintln(w)
	}
	return nil
}

func (p Place) kernelLog(_ context.Context, w io.Writer) error {
	lines := kernellog.Newest(filepath.Join(p.Root, "dev/kmsg"), 256<<10)
	if lines == nil {
		return errors.New("the kernel's log cannot be read here")
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

// files lists what the agent keeps, by name and size: how full it is, and what was set aside as damaged. Nothing is opened. What is below the folders of pods and images
// is theirs.
func (p Place) files(ctx context.Context, w io.Writer) error {
	count := 0
	return filepath.WalkDir(p.DataDir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			_, err = fmt.Fprintf(w, "%s: %v\n", path, err)
			return err
		case count > 3000:
			return errors.New("there are more than 3000 files")
		}
		rel, _ := filepath.Rel(p.DataDir, path)
		if depth := strings.Count(rel, string(filepath.Separator)); d.IsDir() && (depth >= 3 || depth >= 1 && strings.HasPrefix(rel, "pods"+string(filepath.Separator))) {
			return filepath.SkipDir
		}
		count++
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // it is gone
		}
		_, err = fmt.Fprintf(w, "%s %10d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), rel)
		return err
	})
}

// unitLog asks systemd's journal, where there is one, for the agent's last lines.
func (p Place) unitLog(ctx context.Context, w io.Writer) error {
	if p.Unit == "" {
		return nil
	}
	tool, err := exec.LookPath("journalctl")
	if err != nil {
		return nil //nolint:nilerr // no systemd: the agent's own lines are in agent.log
	}
	cmd := exec.CommandContext(ctx, tool, "--unit", p.Unit, "--lines", "1500", "--no-pager", "--output", "short-iso", "--quiet") //nolint:gosec // no word of it comes from outside
	cmd.Stdout = w
	cmd.WaitDelay = time.Second
	return cmd.Run()
}
