// Package isolation runs the tests of a package in network and mount namespaces of their own, so that what they do to packet filters,
// routes and /var/lib/cni is theirs alone, and gone with them.
//
//	func TestMain(m *testing.M) { os.Exit(isolation.Run(m)) }
//
// The test binary starts itself again in new namespaces. There it has a loopback, and a link [Uplink] with the address [Address] and
// the default route, as a gateway has one; nothing is behind it but what the tests themselves serve there. It needs root and iproute2.
// For one TestMain; everything that the tests start is in the same namespaces. hil-tests/network uses it, and is its test.
package isolation

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The gateway's link to the rest of the world.
const (
	Uplink  = "up0"
	Address = "192.0.2.2"
)

// inside is set in the environment of the process in the new namespaces.
const inside = "SKERRY_ISOLATED"

// private are folders of the machine that CNI plugins write to whatever they are told.
var private = []string{"/var/lib/cni"}

// Run runs the tests in new namespaces and returns the exit code.
func Run(m *testing.M) int {
	if os.Getenv(inside) != "" {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "isolation:", err)
			return 1
		}
		return m.Run()
	}
	code, err := again()
	if err != nil {
		fmt.Fprintln(os.Stderr, "isolation:", err)
		return 1
	}
	return code
}

// again runs this program once more in new namespaces.
func again() (int, error) {
	for _, dir := range private {
		if err := os.Mkdir(dir, 0o755); err == nil {
			defer os.Remove(dir) //nolint:errcheck // in use by others by now
		} else if !errors.Is(err, os.ErrExist) {
			return 0, err
		}
	}
	runtime.LockOSThread() // the child is told when its parent's thread ends
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start in new namespaces (are you root?): %w", err)
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				cmd.Process.Signal(s) //nolint:errcheck // it has ended
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil
	}
	return 0, err
}

func prepare() error {
	for _, flags := range []uintptr{unix.MS_PRIVATE | unix.MS_REC, unix.MS_SHARED | unix.MS_REC} { // cut off from the machine, then as systemd leaves it
		if err := unix.Mount("", "/", "", flags, ""); err != nil {
			return fmt.Errorf("separate the mounts: %w", err)
		}
	}
	for _, dir := range private {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", dir, err)
		}
	}
	for _, command := range []string{
		"link set lo up",
		"link add " + Uplink + " type bridge", "addr add " + Address + "/24 dev " + Uplink, "link set " + Uplink + " up", "route add default dev " + Uplink,
	} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", command, err, out)
		}
	}
	return nil
}
