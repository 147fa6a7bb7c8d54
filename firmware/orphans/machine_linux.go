package orphans

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"
)

const (
	shimName      = "containerd-shim-runc-v2"
	shimNamespace = "k8s.io"
	killTries     = 20
	killPause     = 50 * time.Millisecond
	proc          = "/proc"
)

// namespaceName is what containerd calls network namespaces: cni- and a UUID.
var namespaceName = regexp.MustCompile(`^cni-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// thisMachine is the one that we run on.
type thisMachine struct{}

func (thisMachine) shims(socket string) (map[string]int, error) {
	if socket == "" {
		return nil, nil
	}
	pids, err := processes()
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, pid := range pids {
		if id := shimOf(pid, socket); id != "" {
			out[id] = pid
		}
	}
	return out, nil
}

// shimOf returns whose sandbox's shim a process is; "" if it is none of the socket's.
func shimOf(pid int, socket string) string {
	line, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return "" // it has ended
	}
	args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	if filepath.Base(args[0]) != shimName || valueOf(args, "-namespace") != shimNamespace || valueOf(args, "-address") != socket {
		return ""
	}
	if id := valueOf(args, "-id"); sandboxID.MatchString(id) {
		return id
	}
	return ""
}

func valueOf(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

func processes() (pids []int, err error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// parentOf returns a process's parent; 0 if it has ended.
func parentOf(pid int) int {
	stat, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	// The second field, the name, is in parentheses, and may hold any character.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 || fields[0][0] == 'Z' {
		return 0
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0
	}
	return parent
}

// endShim implements machine. A shim is the parent of its sandbox's processes, of those too whose own parent has ended (it is a subreaper).
func (thisMachine) endShim(pid int, socket, sandbox string) error {
	is := func() bool { return shimOf(pid, socket) == sandbox }
	for range killTries {
		children, err := childrenOf(pid)
		if err != nil {
			return err
		}
		if len(children) == 0 || !is() {
			break
		}
		for _, child := range children {
			if err := kill(child, func() bool { return parentOf(child) == pid }); err != nil {
				return err
			}
		}
		time.Sleep(killPause)
	}
	return kill(pid, is)
}

func childrenOf(parent int) (out []int, err error) {
	pids, err := processes()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if parentOf(pid) == parent {
			out = append(out, pid)
		}
	}
	return out, nil
}

// kill kills a process if it is still the one that is meant: with a handle on it, its number cannot become another's in between.
func kill(pid int, meant func() bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.ENOSYS): // Linux before 5.3
		if !meant() {
			return nil
		}
		err = unix.Kill(pid, unix.SIGKILL)
	case err == nil:
		defer unix.Close(fd) //nolint:errcheck // nothing to lose
		if !meant() {
			return nil
		}
		err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

func (thisMachine) namespaces(dir string) (out []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	for _, e := range entries {
		if namespaceName.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func (thisMachine) removeNamespace(dir, name string) error {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at a network namespace: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if pid, err := inhabitant(st.Ino); pid != 0 || err != nil {
			return errors.Join(err, fmt.Errorf("process %d is in it", pid))
		}
	}
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: nothing is mounted there
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // names the path
	}
	return nil
}

// inhabited reports whether a process is in the network namespace at path, or may be.
func inhabited(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	pid, err := inhabitant(st.Ino)
	return pid != 0 || err != nil
}

// ofHost reports whether a process is one of the machine's own services, and not in a container, by its cgroups. The kernel does not tell the namespaces of those that may do
// more than the agent.
func ofHost(pid int) bool {
	groups, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(strings.TrimSpace(string(groups))) {
		_, group, _ := strings.Cut(line, ":")
		_, group, ok := strings.Cut(strings.TrimSpace(group), ":")
		service := group == "/" || strings.HasPrefix(group, "/init.scope") || strings.HasPrefix(group, "/system.slice/") && strings.HasSuffix(group, ".service")
		if !ok || !service {
			return false
		}
	}
	return true
}

// inhabitant returns a process that is in a network namespace; 0: none is.
func inhabitant(inode uint64) (int, error) {
	pids, err := processes()
	if err != nil {
		return 0, err
	}
	want := fmt.Sprintf("net:[%d]", inode)
	for _, pid := range pids {
		switch link, err := os.Readlink(filepath.Join(proc, strconv.Itoa(pid), "ns", "net")); {
		case err == nil && link == want:
			return pid, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) && !ofHost(pid): // it may be in it
			return 0, fmt.Errorf("see which network namespace process %d is in: %w", pid, err)
		}
	}
	return 0, nil
}

func (thisMachine) attachments(n network) ([]attachment, error) {
	return attachmentsOf(n, libcni.NewCNIConfig(n.binDirs, nil), inhabited)
}

func (thisMachine) detach(ctx context.Context, n network, a attachment) error {
	return detachFrom(ctx, n, libcni.NewCNIConfig(n.binDirs, nil), a)
}
