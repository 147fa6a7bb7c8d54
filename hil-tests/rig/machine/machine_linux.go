package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

// Machine is a Debian that runs.
type Machine struct {
	// Root is where the machine's files can be written and read from outside.
	Root string
	init int // its PID 1, as seen from outside
}

// The first program in the new namespaces: it makes them look like a machine, and becomes systemd. $1 is the root.
const boot = `set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for d in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r name major minor <<<"$d"
  mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=skerry PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=console </dev/null`

// Boot starts a machine whose file system begins as root, and returns once systemd has started what is enabled.
func Boot(t *testing.T, root string) *Machine {
	t.Helper()
	if _, err := os.Stat(root + ".complete"); err != nil {
		t.Fatalf("%s is not there or not complete: scripts/build-debian-root.sh %s", root, root)
	}
	dir := t.TempDir()
	m := &Machine{Root: overlay(t, dir, root)}
	group := cgroup(t)

	log, err := os.Create(filepath.Join(dir, "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--", "bash", "-c", boot, "boot", m.Root)
	cmd.Stdout, cmd.Stderr = log, log
	// In its cgroup from the first instruction on: the root of the machine's cgroup namespace is where its first process was.
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd()), Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it, its child: PID 1, and with that one all
		_ = cmd.Wait()
		if t.Failed() {
			out, _ := os.ReadFile(log.Name())
			t.Logf("console:\n%s", out)
		}
	})
	m.init = child(t, cmd.Process.Pid)
	eventually(t, time.Minute, "systemd has started everything", func(ctx context.Context) error {
		out, err := m.Run(ctx, "systemctl", "is-system-running")
		if state := strings.TrimSpace(out); state != "running" {
			return fmt.Errorf("systemd is %q: %w", state, errors.Join(err, errNotRunning))
		}
		return nil
	})
	return m
}

var errNotRunning = errors.New("it should be running")

// Run runs a command inside. The error has what it wrote to stderr.
func (m *Machine) Run(ctx context.Context, command ...string) (stdout string, err error) {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.init), "-a", "--"}, command...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "DEBIAN_FRONTEND=noninteractive"}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out.String(), nil
}

func eventually(t *testing.T, limit time.Duration, what string, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := process.Poll(ctx, what, nil, try); err != nil {
		t.Fatal(err)
	}
}

// overlay mounts a file system that begins as lower and is written to dir.
func overlay(t *testing.T, dir, lower string) string {
	t.Helper()
	lower, err := filepath.Abs(lower)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, filepath.Join(dir, "upper"), filepath.Join(dir, "work"))
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Fatalf("overlayfs on %s: %v", root, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", root, err)
		}
	})
	return root
}

// cgroup makes a group of the version 2 for a machine, and removes it with all that the machine has made in it.
func cgroup(t *testing.T) *os.File {
	t.Helper()
	top := t.TempDir() // mounted here: this machine may have version 1 only at /sys/fs/cgroup
	if err := unix.Mount("cgroup2", top, "cgroup2", 0, ""); err != nil {
		t.Fatalf("cgroup v2: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(top, unix.MNT_DETACH) })
	dir, err := os.MkdirTemp(top, "skerry-machine-")
	if err != nil {
		t.Fatal(err)
	}
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		group.Close()
		eventually(t, 20*time.Second, "the machine's cgroups are gone", func(context.Context) error { return removeGroups(dir) })
	})
	return group
}

// removeGroups removes a cgroup and those within, which is possible once their processes are gone.
func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil {
		return fmt.Errorf("remove the cgroup %s: %w", dir, err)
	}
	return nil
}

// child returns the process that unshare has forked.
func child(t *testing.T, parent int) int {
	t.Helper()
	pid := 0
	eventually(t, 20*time.Second, "systemd runs", func(context.Context) error {
		out, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
		if err != nil {
			return fmt.Errorf("children of unshare: %w", err)
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(string(out))); err != nil {
			return fmt.Errorf("unshare has no child yet: %w", err)
		}
		// Whoever enters before systemd runs there enters half a machine.
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil || strings.TrimSpace(string(name)) != "systemd" {
			return fmt.Errorf("PID 1 is %q: %w", name, errors.Join(err, errNotRunning))
		}
		return nil
	})
	return pid
}
