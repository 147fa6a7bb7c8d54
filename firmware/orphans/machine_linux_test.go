package orphans

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stand starts a process that looks like a shim, with a child.
func stand(t *testing.T, socket, id string) *exec.Cmd {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(shell)
	c.Args = []string{"/usr/bin/" + shimName, "-c", "sleep 1000 & echo started; read forever", "-namespace", shimNamespace, "-id", id, "-address", socket}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
		_ = c.Wait()
	})
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestShims(t *testing.T) {
	socket, id := "/run/"+filepath.Base(t.TempDir())+".sock", strings.Repeat("e5", 32)
	c := stand(t, socket, id)
	other := stand(t, "/run/another.sock", id)
	m := thisMachine{}
	got, err := m.shims(socket)
	if err != nil || len(got) != 1 || got[id] != c.Process.Pid {
		t.Fatalf("got %v, %v; want one, with process %d", got, err, c.Process.Pid)
	}
	if err := m.endShim(c.Process.Pid, socket, strings.Repeat("f6", 32)); err != nil || c.ProcessState != nil || unix.Kill(c.Process.Pid, 0) != nil {
		t.Errorf("another's shim was ended: %v", err)
	}
	children, err := childrenOf(c.Process.Pid)
	if err != nil || len(children) != 1 {
		t.Fatalf("children %v, %v", children, err)
	}
	if err := m.endShim(c.Process.Pid, socket, id); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || !c.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Errorf("the shim was not killed: %v", c.ProcessState)
	}
	if parentOf(children[0]) != 0 {
		t.Errorf("its child %d runs on", children[0])
	}
	if unix.Kill(other.Process.Pid, 0) != nil {
		t.Error("the shim of another socket has ended")
	}
	if err := m.endShim(c.Process.Pid, socket, id); err != nil {
		t.Errorf("a shim that is gone: %v", err)
	}
}

func TestNamespaces(t *testing.T) {
	dir := t.TempDir()
	const name = "cni-677e42be-1d85-6610-eb31-be7f09c6eab2"
	for _, n := range []string{name, "cni-short", "blue", "netns-677e42be-1d85-6610-eb31-be7f09c6eab2"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := thisMachine{}
	got, err := m.namespaces(dir)
	if err != nil || len(got) != 1 || got[0] != name {
		t.Fatalf("got %q, %v", got, err)
	}
	if got, err := m.namespaces(filepath.Join(dir, "none")); err != nil || got != nil {
		t.Errorf("no folder: %q, %v", got, err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	if pid, err := inhabitant(st.Ino); err != nil || pid == 0 {
		t.Errorf("nobody is in our own namespace: %d, %v", pid, err)
	}
	if ofHost(1<<22 + 1) {
		t.Error("a process that is not there is one of the machine's services")
	}
	if os.Geteuid() == 0 {
		for range 2 { // the second time it is gone
			if err := m.removeNamespace(dir, name); err != nil {
				t.Error(err)
			}
		}
	}
}
