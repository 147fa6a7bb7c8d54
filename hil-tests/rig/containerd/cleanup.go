package containerd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const cleanupLimit = 60 * time.Second

// Cleanup removes every pod, ends containerd and removes everything it made, whatever state it is in. What cannot be
// removed is named in the error. Cleanup may be called again.
func (r *Runtime) Cleanup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupLimit)
	defer cancel()
	if r.running() {
		r.Resume() //nolint:errcheck // it may have ended meanwhile
	}
	// By the runtime's own way first: it frees networks and mounts best. What that leaves, the rest removes.
	r.removePods(ctx) //nolint:errcheck // see above
	errs := []error{r.Stop()}
	r.client.Close()
	r.killTasks()
	errs = append(errs, r.unmountAll(), r.removeBridge(), r.removeCgroups())
	r.removeShared()
	for _, dir := range []string{r.stateDir, r.dir} {
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove containerd's folder: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (r *Runtime) removePods(ctx context.Context) error {
	if !r.running() {
		if len(r.taskDirs()) == 0 {
			return nil
		}
		if err := r.start(ctx); err != nil {
			return err
		}
	}
	pods, err := r.client.ListPodSandbox(ctx, nil)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range pods {
		errs = append(errs, r.client.StopPodSandbox(ctx, p.ID), r.client.RemovePodSandbox(ctx, p.ID))
	}
	return errors.Join(errs...)
}

// taskDirs returns the bundles of the containers that have a shim.
func (r *Runtime) taskDirs() []string {
	dirs, _ := filepath.Glob(filepath.Join(r.layout.State, "io.containerd.runtime.v2.task", "*", "*")) //nolint:errcheck // a constant pattern
	return dirs
}

// killTasks kills the containers' first processes and the shims that are still there, and removes the shims' sockets.
func (r *Runtime) killTasks() {
	for _, dir := range r.taskDirs() {
		if pid := readPID(filepath.Join(dir, "init.pid")); pid > 1 && processUses(pid, filepath.Base(dir)) {
			syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // gone is fine
		}
	}
	for _, pid := range r.shims() {
		syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // gone is fine
	}
	for deadline := time.Now().Add(5 * time.Second); len(r.shims()) > 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	for _, dir := range r.taskDirs() {
		if address, err := os.ReadFile(filepath.Join(dir, "address")); err == nil {
			os.Remove(strings.TrimPrefix(strings.TrimSpace(string(address)), "unix://")) //nolint:errcheck // gone is fine
		}
	}
}

// shims returns the shims that were started for our socket.
func (r *Runtime) shims() []int {
	return processes(func(args []string) bool {
		return strings.Contains(args[0], "containerd-shim") && slices.Contains(args, r.layout.Socket)
	})
}

// killOld ends a containerd with our configuration that an earlier process started and could not end: it holds the
// lock of our folders.
func (r *Runtime) killOld() error {
	old := func() []int {
		return processes(func(args []string) bool {
			return filepath.Base(args[0]) == filepath.Base(r.binary) && slices.Contains(args, r.layout.ConfigFile)
		})
	}
	for _, pid := range old() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end the containerd that an earlier run left (process %d): %w", pid, err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); len(old()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the containerd that an earlier run left (processes %v) does not end", old())
		}
	}
	return nil
}

// processes returns the ids of the processes whose arguments match.
func processes(match func(args []string) bool) []int {
	var pids []int
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline") //nolint:errcheck // a constant pattern
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if match(strings.Split(string(data), "\x00")) { // a zombie has no arguments
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func readPID(path string) int {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return pid
}

// processUses reports whether the process is in the container's cgroup: its id may have been given to another since.
func processUses(pid int, container string) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && bytes.Contains(data, []byte(container))
}

// mounts returns our folders, if they are mount points, and the mount points below them, in the order in which they were made.
func (r *Runtime) mounts() (points []string, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look for mounts: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if p := fields[4]; p == r.dir || strings.HasPrefix(p, r.dir+"/") || strings.HasPrefix(p, r.stateDir+"/") {
			points = append(points, p)
		}
	}
	return points, lines.Err()
}

// unmountAll unmounts what is mounted below our folders, the last mount first.
func (r *Runtime) unmountAll() error {
	points, err := r.mounts()
	errs := []error{err}
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Runtime) removeBridge() error {
	if r.noNet {
		return nil
	}
	if _, err := net.InterfaceByName(r.layout.Bridge); err != nil {
		return nil
	}
	if err := ip("link", "del", r.layout.Bridge); err != nil {
		return fmt.Errorf("remove the pods' bridge: %w", err)
	}
	return nil
}

// removeCgroups removes our cgroups in every hierarchy, the deepest first, after killing what is left in them.
func (r *Runtime) removeCgroups() error {
	var errs []error
	roots, _ := filepath.Glob("/sys/fs/cgroup/*") //nolint:errcheck // a constant pattern
	for _, root := range append(roots, "/sys/fs/cgroup") {
		var dirs []string
		top := filepath.Join(root, r.CgroupParent())
		filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error { //nolint:errcheck // returns nil
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			if err := removeCgroup(dir); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func removeCgroup(dir string) error {
	var err error
	for range 50 {
		if data, readErr := os.ReadFile(filepath.Join(dir, "cgroup.procs")); readErr == nil {
			for _, field := range strings.Fields(string(data)) {
				if pid, convErr := strconv.Atoi(field); convErr == nil && pid > 1 {
					syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // gone is fine
				}
			}
		}
		if err = os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

// removeShared removes what lies in folders that containerd 1.6 and libcni share with others.
func (r *Runtime) removeShared() {
	var patterns []string
	if !r.noNet {
		patterns = append(patterns, r.layout.Bridge+"-*")
	}
	for _, dir := range r.taskDirs() { // of the loopback network, whose name is compiled in
		patterns = append(patterns, "cni-loopback-"+filepath.Base(dir)+"-*")
	}
	for _, pattern := range patterns {
		results, _ := filepath.Glob(filepath.Join("/var/lib/cni/results", pattern)) //nolint:errcheck // a constant pattern
		for _, path := range results {
			os.Remove(path) //nolint:errcheck // a small file that nobody reads
		}
	}
	// Remove fails on a folder that is in use.
	for _, dir := range []string{"/run/containerd/s", "/run/containerd", "/var/lib/cni/results", "/var/lib/cni"} {
		os.Remove(dir) //nolint:errcheck // see above
	}
}
