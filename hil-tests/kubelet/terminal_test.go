//go:build integration

package kubelet_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// TestTerminal gives exec a terminal, and changes its size. kubectl tells the size when the command runs already: until then it is 0.
func TestTerminal(t *testing.T) {
	pod(t, "term", sleeps)
	both(t, func(t *testing.T) {
		x := terminal(t, 33, 101, "exec", "-it", "term", "--", "sh", "-c",
			`tty; for want in "33 101" "44 55"; do until [ "$(stty size)" = "$want" ]; do sleep 1; done; echo "is $want"; done; read x; echo "read $x"`)
		stacktest.Eventually(t, patience, "of the first size", func() (bool, string) { return strings.Contains(x.String(), "is 33 101\r\n"), x.String() })
		x.resize(44, 55)
		stacktest.Eventually(t, patience, "of the second size", func() (bool, string) { return strings.Contains(x.String(), "is 44 55\r\n"), x.String() })
		x.enter("typed\r")
		if code := x.wait(); code != 0 || !strings.HasPrefix(x.String(), "/dev/pts/") || !strings.Contains(x.String(), "\nread typed\r\n") {
			t.Errorf("%d %q", code, x.String())
		}
	})
}

// TestDebug adds a container to a pod that runs, which sees its processes, and speaks with it: at a terminal, and without one.
func TestDebug(t *testing.T) {
	pod(t, "debugged", "\n  containers:\n    - {name: main, image: $SAMPLE}\n")
	box := w.Images.Ref("busybox:1")
	n := 0
	both(t, func(t *testing.T) {
		n++
		name := fmt.Sprintf("typed-%d", n)
		x := terminal(t, 33, 101, "debug", "debugged", "-it", "-c", name, "--image="+box, "--target=main", "--profile=general", "--", "sh", "-c",
			`until [ "$(stty size)" = "33 101" ]; do sleep 1; done; echo "sees $(tr '\0' ' ' < /proc/1/cmdline)"; read x; echo "read $x"; exit 5`)
		stacktest.Eventually(t, patience, "attached", func() (bool, string) { return strings.Contains(x.String(), "sees "), x.String() })
		x.enter("typed\r")
		x.wait()
		if !strings.Contains(x.String(), "read typed\r\n") || strings.Contains(x.String(), "sees sh ") {
			t.Errorf("%q", x.String())
		}
		stacktest.Eventually(t, patience, "ended", func() (bool, string) {
			out, _ := run(t, nil, "get", "pod", "debugged", "-o", `jsonpath={.status.ephemeralContainerStatuses[?(@.name=="`+name+`")].state.terminated.exitCode}`)
			return out == "5", out
		})
		if out := must(t, "logs", "debugged", "-c", name); !strings.Contains(out, "read typed") {
			t.Errorf("its log: %q", out)
		}
		name = fmt.Sprintf("piped-%d", n)
		in, feed := io.Pipe() // stays open: kubectl sets no stdinOnce, so who attached is let go when the input ends, and the container goes on
		// It lives on for a moment: when the first of its streams closes, containerd lets go of who attached with an input, whatever the other
		// stream still holds (internal/cri/io, ContainerIO.Attach).
		k := call(t, in, "debug", "debugged", "-i", "-c", name, "--image="+box, "--target=main", "--profile=general", "--", "sh", "-c", "read x; echo got $x; echo bad >&2; sleep 2")
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
		go fmt.Fprintln(feed, "hello")
		stacktest.Eventually(t, patience, "answered", func() (bool, string) {
			return strings.Contains(k.out.String(), "got hello\n") && strings.Contains(k.errs.String(), "bad\n"), k.out.String() + k.errs.String()
		})
		_ = feed.Close()
		if err := k.Wait(); err != nil {
			t.Errorf("%v: %q %q", err, k.out.String(), k.errs.String())
		}
	})
	if out := must(t, "get", "pod", "debugged", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}"); out != "Running 0" {
		t.Errorf("the pod itself: %s", out)
	}
}

// session is kubectl with a pseudo-terminal as its standard streams and as its controlling terminal.
type session struct {
	lockedBuffer // what it showed
	t            *testing.T
	k            *kubectl
	master       *os.File
	read         chan struct{}
}

// terminal starts kubectl at a terminal of a size.
func terminal(t *testing.T, rows, columns uint16, args ...string) *session {
	t.Helper()
	// Without O_NONBLOCK, Close would wait for a Read.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &session{t: t, k: call(t, nil, args...), master: os.NewFile(uintptr(fd), "/dev/ptmx"), read: make(chan struct{})}
	t.Cleanup(func() { _ = x.master.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	x.resize(rows, columns)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x.k.Stdin, x.k.Stdout, x.k.Stderr = slave, slave, slave
	x.k.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true} // who has a controlling terminal hears that its size changes
	err = x.k.Start()
	_ = slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(x.read)
		_, _ = io.Copy(&x.lockedBuffer, x.master) // ends with EIO when the last user of the slave is gone
	}()
	t.Cleanup(func() { x.wait() })
	return x
}

func (x *session) resize(rows, columns uint16) {
	x.t.Helper()
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		x.t.Fatal(err)
	}
}

func (x *session) enter(text string) {
	x.t.Helper()
	if _, err := io.WriteString(x.master, text); err != nil {
		x.t.Fatal(err)
	}
}

// wait returns kubectl's exit code once all that it showed has been read.
func (x *session) wait() int {
	<-x.read
	_ = x.k.Wait()
	return x.k.ProcessState.ExitCode()
}

// skerryCA returns the pool of the CA that signs the relays' certificates.
func skerryCA(t *testing.T) *x509.CertPool {
	t.Helper()
	s, err := w.cluster.Core.CoreV1().Secrets("skerry-system").Get(t.Context(), "skerry-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, pem := range s.Data {
		pool.AppendCertsFromPEM(pem)
	}
	return pool
}
