package linetest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// PTY is a pseudo-terminal: a port that has no modem lines and takes no time. Unplug and Replug change what Path leads to, as udev
// does. Its peer does not notice when a program opens or closes the port: that a pseudo-terminal tells its peer by errors is of no
// device.
type PTY struct {
	// Path is a symbolic link to the port, as udev makes them.
	Path string
	t    testing.TB

	mu   sync.Mutex
	peer *os.File
	hold int // a descriptor of the port, open for as long as it is plugged in; guarded as peer is
}

// OpenPTY opens a pseudo-terminal, which ends with the test.
func OpenPTY(t testing.TB) *PTY {
	t.Helper()
	p := &PTY{Path: filepath.Join(t.TempDir(), "ttyTEST"), t: t}
	p.Replug()
	t.Cleanup(p.Unplug)
	return p
}

// Peer is the device's end. It works with deadlines. It is another one after each Replug.
func (p *PTY) Peer() *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peer
}

// Unplug takes the port away: whoever has it open reads an error.
func (p *PTY) Unplug() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peer == nil {
		return
	}
	if err := os.Remove(p.Path); err != nil {
		p.t.Errorf("unplug: %v", err)
	}
	if err := p.peer.Close(); err != nil {
		p.t.Errorf("unplug: %v", err)
	}
	if err := unix.Close(p.hold); err != nil {
		p.t.Errorf("unplug: %v", err)
	}
	p.peer = nil
}

// Replug makes a new port under the same path.
func (p *PTY) Replug() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	fd, slave, err := newPTY()
	if err != nil {
		p.t.Fatal(err)
	}
	peer := os.NewFile(uintptr(fd), "ptmx")
	hold, err := unix.Open(slave, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		err = os.Symlink(slave, p.Path)
	}
	if err != nil {
		_ = peer.Close() // the first error says more
		p.t.Fatal(err)
	}
	p.peer, p.hold = peer, hold
}

func newPTY() (int, string, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, "", fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = setRaw(fd) // until somebody opens the port it must not echo what the device sends
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, "", fmt.Errorf("set up a pseudo-terminal: %w", err)
	}
	return fd, fmt.Sprintf("/dev/pts/%d", n), nil
}

func setRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
