//go:build integration

package containerd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	api "github.com/skerry/skerry/firmware/containerd"
	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/kernellog"
	"github.com/skerry/skerry/hil-tests/rig/containerd"
	"github.com/skerry/skerry/hil-tests/rig/images"
)

// rig is one containerd and registry, shared by the subtests: starting them is most of the time.
type rig struct {
	rt      *containerd.Runtime
	reg     *images.Registry
	options containerd.Options
	logs    string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	reg, err := images.Start(t.Context(), images.Options{ModuleDir: "../../..", BuildDir: filepath.Join(dir, "images")})
	noError(t, err)
	t.Cleanup(func() { noError(t, reg.Close()) })
	options := containerd.Options{Dir: filepath.Join(dir, "containerd"), SandboxImage: reg.PauseImage()}
	began := time.Now()
	rt, err := containerd.Start(t.Context(), options)
	noError(t, err)
	t.Logf("containerd ready after %v", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		began := time.Now()
		noError(t, rt.Cleanup(context.Background()))
		t.Logf("cleaned up in %v", time.Since(began).Round(time.Millisecond))
		checkNothingLeft(t, rt)
	})
	return &rig{rt, reg, options, filepath.Join(dir, "logs")}
}

func TestRealContainerd(t *testing.T) {
	r := newRig(t)
	t.Run("images", r.testImages)
	t.Run("pod", r.testPod)
	t.Run("memory limit", r.testMemoryLimit)
	t.Run("task without a container", r.testTask)
	t.Run("not on 1.6", r.testUnimplemented)
	t.Run("hung runtime", r.testHung)
	t.Run("restart", r.testRestart) // leaves its pod running: Cleanup must remove it
}

func (r *rig) testImages(t *testing.T) {
	ctx, c := t.Context(), r.rt.Client()
	spec := &cri.ImageSpec{Image: r.reg.Ref("sample:1")}
	status, err := c.ImageStatus(ctx, spec, false)
	if noError(t, err); status.Image != nil {
		t.Fatalf("an image that was never pulled has status %+v", status.Image)
	}
	ref, err := c.PullImage(ctx, spec, nil, nil)
	if noError(t, err); ref == "" {
		t.Fatal("PullImage returned no reference")
	}
	status, err = c.ImageStatus(ctx, spec, true)
	if noError(t, err); status.Image == nil || status.Image.ID != ref || status.Image.Size == 0 {
		t.Fatalf("ImageStatus = %+v, want the image %s", status.Image, ref)
	}
	list, err := c.ListImages(ctx, nil)
	if noError(t, err); len(list) == 0 {
		t.Fatal("ListImages is empty")
	}
	_, err = c.PullImage(ctx, &cri.ImageSpec{Image: r.reg.Ref("missing:1")}, nil, nil)
	if !errors.Is(err, cri.ErrNotFound) || !strings.Contains(err.Error(), "missing:1") {
		t.Errorf("pulling an image that does not exist: %v, want ErrNotFound that names it", err)
	}
	t.Log("missing image:", err)
	_, err = c.PullImage(ctx, &cri.ImageSpec{Image: "127.0.0.1:1/x:1"}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("pulling from a registry that is down: %v", err)
	}
	fs, err := c.ImageFsInfo(ctx)
	if noError(t, err); len(fs.ImageFilesystems) == 0 {
		t.Error("ImageFsInfo reports no file system")
	}
}

func (r *rig) testPod(t *testing.T) {
	ctx, c := t.Context(), r.rt.Client()
	began := time.Now()
	pod := r.sandbox(t, "pod")
	sandboxReady := time.Since(began)
	config := r.container("app", "serve")
	config.Envs = []cri.KeyValue{{Key: "GREETING", Value: "Grüße"}}
	conf := t.TempDir()
	noError(t, os.WriteFile(filepath.Join(conf, "key"), []byte("value"), 0o644))
	config.Mounts = []cri.Mount{{ContainerPath: "/config", HostPath: conf, Readonly: true}}
	id := r.run(t, pod, config)
	t.Logf("sandbox after %v, container started after %v", sandboxReady.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))

	sandbox, err := c.PodSandboxStatus(ctx, pod.id, true)
	noError(t, err)
	if s := sandbox.Status; s.State != cri.SandboxReady || s.Metadata.UID != pod.config.Metadata.UID || s.Labels["app"] != "pod" {
		t.Fatalf("sandbox status = %+v", s)
	}
	if got := get(t, sandbox.Status.Network.IP, "/config/key"); got != "value" {
		t.Errorf("mounted file served as %q", got)
	}
	if got := get(t, sandbox.Status.Network.IP, "/env"); !strings.Contains(got, "GREETING=Grüße\n") {
		t.Errorf("environment served as %q", got)
	}
	status, err := c.ContainerStatus(ctx, id, true)
	noError(t, err)
	if s := status.Status; s.State != cri.ContainerRunning || s.StartedAt == 0 || s.Image.Image != r.reg.Ref("sample:1") {
		t.Errorf("container status = %+v, image %+v", s, s.Image)
	}
	out, err := c.ExecSync(ctx, id, []string{"/sample", "env"}, 10*time.Second)
	if noError(t, err); out.ExitCode != 0 || !strings.Contains(string(out.Stdout), "SAMPLE_VERSION=1") {
		t.Errorf("exec env = %d, %q, %q", out.ExitCode, out.Stdout, out.Stderr)
	}
	out, err = c.ExecSync(ctx, id, []string{"/sample", "exit", "7"}, 0)
	if noError(t, err); out.ExitCode != 7 {
		t.Errorf("exec exit 7 = %d", out.ExitCode)
	}
	_, err = c.ExecSync(ctx, id, []string{"/sample", "sleep"}, time.Second)
	if err == nil {
		t.Error("a command that outlived its time-out succeeded")
	}
	t.Log("exec time-out:", err)
	if stats, err := c.ContainerStats(ctx, id); err != nil || stats.Memory == nil || *stats.Memory.WorkingSetBytes == 0 {
		t.Errorf("ContainerStats = %+v, %v", stats, err)
	}
	log := r.checkLog(t, status.Status.LogPath)
	noError(t, os.Rename(log, log+".1"))
	noError(t, c.ReopenContainerLog(ctx, id))
	eventually(t, "the log is reopened", func() error { _, err := os.Stat(log); return err })

	began = time.Now()
	noError(t, c.StopContainer(ctx, id, 5*time.Second))
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("SIGTERM stopped the container after %v only", took)
	}
	status, err = c.ContainerStatus(ctx, id, false)
	if noError(t, err); status.Status.State != cri.ContainerExited || status.Status.ExitCode != 0 || status.Status.Reason != "Completed" {
		t.Errorf("stopped container = %+v", status.Status)
	}
	noError(t, c.StopPodSandbox(ctx, pod.id))
	noError(t, c.RemovePodSandbox(ctx, pod.id))
	noError(t, c.RemovePodSandbox(ctx, pod.id)) // idempotent
	if _, err := c.PodSandboxStatus(ctx, pod.id, false); !errors.Is(err, cri.ErrNotFound) {
		t.Errorf("status of a removed sandbox: %v, want ErrNotFound", err)
	}
	if _, err := c.ContainerStatus(ctx, id, false); !errors.Is(err, cri.ErrNotFound) {
		t.Errorf("status of a removed container: %v, want ErrNotFound", err)
	}
}

// checkLog finds a whole line in the CRI log format and returns the log's path.
func (r *rig) checkLog(t *testing.T, path string) string {
	t.Helper()
	line := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d) stdout F sample: line 0 host=pod `)
	eventually(t, "a line in the log", func() error {
		data, err := os.ReadFile(path)
		if err == nil && !line.Match(data) {
			err = fmt.Errorf("%s holds %q", path, data)
		}
		return err
	})
	return path
}

func (r *rig) testMemoryLimit(t *testing.T) {
	ctx, c := t.Context(), r.rt.Client()
	pod := r.sandbox(t, "limited")
	config := r.container("hog", "memhog", "200")
	config.Linux = &cri.LinuxContainerConfig{Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, CPUPeriod: 100000, CPUQuota: 50000, CPUShares: 512}}
	id := r.run(t, pod, config)
	eventually(t, "the container is killed for its memory", func() error {
		s, err := c.ContainerStatus(ctx, id, false)
		// containerd on a busy machine loses the reason; the kernel does not.
		if err == nil && (s.Status.State != cri.ContainerExited || s.Status.ExitCode != 137 || s.Status.Reason != "OOMKilled" && !kernellog.KilledForMemory(kernellog.Path, id)) {
			err = fmt.Errorf("state %d, reason %q, exit code %d", s.Status.State, s.Status.Reason, s.Status.ExitCode)
		}
		return err
	})
	limits, err := filepath.Glob("/sys/fs/cgroup/memory" + r.rt.CgroupParent() + "/limited")
	if noError(t, err); len(limits) != 1 {
		if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
			t.Errorf("the pod's cgroup is not below %s", r.rt.CgroupParent())
		}
	}
	noError(t, c.StopPodSandbox(ctx, pod.id))
	noError(t, c.RemovePodSandbox(ctx, pod.id))
}

// testTask: a container whose task CRI does not know of, as an interrupted start leaves it, cannot be removed through CRI alone.
func (r *rig) testTask(t *testing.T) {
	ctx, c := t.Context(), r.rt.Client()
	pod := r.sandbox(t, "task")
	id, err := c.CreateContainer(ctx, pod.id, r.container("main", "sleep"), pod.config)
	noError(t, err)
	out, err := exec.CommandContext(ctx, "ctr", "--address", r.rt.Socket(), "--namespace", "k8s.io", "tasks", "start", "--detach", "--null-io", id).CombinedOutput()
	if err != nil {
		t.Fatalf("start a task beside CRI: %v: %s", err, out)
	}
	if err := c.RemoveContainer(ctx, id); !errors.Is(err, cri.ErrFailedPrecondition) || !strings.Contains(err.Error(), "cannot delete running task "+id) {
		t.Fatalf("it was to be refused: %v", err)
	}
	eventually(t, "the task ends", func() error { return api.New(c).EndTask(ctx, id) })
	noError(t, c.RemoveContainer(ctx, id))
	noError(t, api.New(c).EndTask(ctx, id)) // it is gone
	noError(t, c.StopPodSandbox(ctx, pod.id))
	noError(t, c.RemovePodSandbox(ctx, pod.id))
}

func (r *rig) testUnimplemented(t *testing.T) {
	c := r.rt.Client()
	version, err := c.Version(t.Context())
	if noError(t, err); version.RuntimeName != "containerd" || version.RuntimeAPIVersion != "v1" {
		t.Errorf("Version = %+v", version)
	}
	if !strings.HasPrefix(version.RuntimeVersion, "1.6.") {
		t.Logf("containerd is %s: it may have events and a runtime configuration", version.RuntimeVersion)
		return
	}
	if _, err := c.RuntimeConfig(t.Context()); !errors.Is(err, cri.ErrUnimplemented) {
		t.Errorf("RuntimeConfig: %v, want ErrUnimplemented", err)
	}
	err = c.GetContainerEvents(t.Context(), func(*cri.ContainerEventResponse) error { return nil })
	if !errors.Is(err, cri.ErrUnimplemented) {
		t.Errorf("GetContainerEvents: %v, want ErrUnimplemented", err)
	}
}

func (r *rig) testHung(t *testing.T) {
	noError(t, r.rt.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := r.rt.Client().Version(ctx)
	noError(t, r.rt.Resume())
	if !errors.Is(err, cri.ErrDeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("call to a hung runtime: %v, want ErrDeadlineExceeded", err)
	}
	_, err = r.rt.Client().Version(t.Context())
	noError(t, err)
}

func (r *rig) testRestart(t *testing.T) {
	ctx, c := t.Context(), r.rt.Client()
	pod := r.sandbox(t, "survivor")
	id := r.run(t, pod, r.container("app", "serve"))
	before, err := c.ContainerStatus(ctx, id, false)
	noError(t, err)
	noError(t, r.rt.Kill())
	_, err = c.Version(ctx)
	if !errors.Is(err, cri.ErrUnavailable) || !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), r.rt.Socket()) {
		t.Errorf("call while containerd is dead: %v, want ErrUnavailable that names the socket", err)
	}
	t.Log("dead runtime:", err)
	began := time.Now()
	noError(t, r.rt.Restart(ctx))
	t.Logf("ready again after %v", time.Since(began).Round(time.Millisecond))
	after, err := c.ContainerStatus(ctx, id, false)
	noError(t, err)
	if after.Status.State != cri.ContainerRunning || after.Status.StartedAt != before.Status.StartedAt {
		t.Errorf("container after restart = %+v, before %+v", after.Status, before.Status)
	}
}

// TestTakeOverAndCleanUp plays a rig that was killed, then a containerd that cannot be started any more.
func TestTakeOverAndCleanUp(t *testing.T) {
	r := newRig(t)
	_, err := r.rt.Client().PullImage(t.Context(), &cri.ImageSpec{Image: r.reg.Ref("sample:1")}, nil, nil)
	noError(t, err)
	p := r.sandbox(t, "left")
	id := r.run(t, p, r.container("app", "serve"))
	second, err := containerd.Start(t.Context(), r.options)
	noError(t, err)
	status, err := second.Client().ContainerStatus(t.Context(), id, false)
	if noError(t, err); status.Status.State != cri.ContainerRunning {
		t.Errorf("container after the take-over = %+v", status.Status)
	}
	if r.rt.PID() != 0 {
		t.Error("the first containerd still runs beside the second")
	}
	noError(t, second.Kill())
	noError(t, os.WriteFile(filepath.Join(r.options.Dir, "config.toml"), []byte("not a configuration"), 0o600))
	noError(t, second.Cleanup(t.Context()))
	checkNothingLeft(t, second)
}

type pod struct {
	id     string
	config *cri.PodSandboxConfig
}

func (r *rig) sandbox(t *testing.T, name string) pod {
	t.Helper()
	dir := filepath.Join(r.logs, name)
	noError(t, os.MkdirAll(dir, 0o755))
	config := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, UID: "uid-" + name, Namespace: "default"},
		Hostname: name, LogDirectory: dir,
		Labels: map[string]string{"app": name},
		Linux:  &cri.LinuxPodSandboxConfig{CgroupParent: r.rt.CgroupParent() + "/" + name},
	}
	id, err := r.rt.Client().RunPodSandbox(t.Context(), config, "")
	noError(t, err)
	return pod{id, config}
}

func (r *rig) container(name string, args ...string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: r.reg.Ref("sample:1")},
		Args: args, LogPath: name + ".log",
	}
}

func (r *rig) run(t *testing.T, p pod, config *cri.ContainerConfig) string {
	t.Helper()
	c := r.rt.Client()
	id, err := c.CreateContainer(t.Context(), p.id, config, p.config)
	noError(t, err)
	noError(t, c.StartContainer(t.Context(), id))
	return id
}

func checkNothingLeft(t *testing.T, rt *containerd.Runtime) {
	if _, err := os.Stat(filepath.Dir(rt.Socket())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state folder after Cleanup: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if noError(t, err); strings.Contains(string(mounts), filepath.Dir(rt.Socket())) {
		t.Error("mounts are left after Cleanup")
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*" + rt.CgroupParent()); len(left) > 0 {
		t.Errorf("cgroups are left after Cleanup: %v", left)
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range commands {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), rt.Socket()) {
			t.Errorf("process left after Cleanup: %q", data)
		}
	}
}

func get(t *testing.T, ip, path string) string {
	t.Helper()
	var body string
	eventually(t, "an answer from the pod", func() error {
		client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + net.JoinHostPort(ip, "8080") + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		data := make([]byte, 64<<10)
		n, _ := resp.Body.Read(data)
		body = string(data[:n])
		return nil
	})
	return body
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("waited in vain for: %s: %v", what, err)
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
