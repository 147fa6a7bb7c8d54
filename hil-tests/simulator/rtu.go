package simulator

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// frameGap ends a frame that is not of a known length. Pseudo-terminals have no baud rate: it only has to be longer than what a scheduler takes.
const frameGap = 50 * time.Millisecond

// maxFrame is the longest RTU frame (Modbus over serial line V1.02, section 2.5.1).
const maxFrame = 256

// terminal is a pseudo-terminal: the simulator has the master's end, a gateway opens path.
type terminal struct {
	*os.File
	path string
	hold int // the other end, kept open so that the terminal survives whoever opens and closes it
}

// openTerminal makes a pseudo-terminal and a symbolic link to it at path. A link of an earlier run is replaced; nothing else is.
func openTerminal(path string) (t *terminal, err error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink == 0 {
		return nil, fmt.Errorf("%s exists and is not a link to a pseudo-terminal", path)
	}
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	t = &terminal{File: os.NewFile(uintptr(fd), "/dev/ptmx"), path: path, hold: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock the pseudo-terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("name of the pseudo-terminal: %w", err)
	}
	name := fmt.Sprintf("/dev/pts/%d", n)
	if t.hold, err = unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	raw, err := unix.IoctlGetTermios(t.hold, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("mode of %s: %w", name, err)
	}
	raw.Iflag, raw.Oflag, raw.Lflag = 0, 0, 0
	raw.Cflag = raw.Cflag&^unix.CSIZE | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err = unix.IoctlSetTermios(t.hold, unix.TCSETS, raw); err != nil {
		return nil, fmt.Errorf("mode of %s: %w", name, err)
	}
	_ = os.Remove(path) // the link of an earlier run; Symlink says so if it could not be removed
	if err = os.Symlink(name, path); err != nil {
		return nil, err
	}
	return t, nil
}

// Close takes the terminal away: whoever has it open reads an error.
func (t *terminal) Close() error {
	_ = os.Remove(t.path) // it may never have been made
	err := t.File.Close()
	if t.hold >= 0 {
		err = errors.Join(err, unix.Close(t.hold))
		t.hold = -1
	}
	return err
}

// serveRTU answers the requests on a line until it is closed.
func (s *Simulator) serveRTU(t *terminal, units map[byte]*Device) {
	var frame []byte
	buf := make([]byte, maxFrame)
	for {
		deadline := time.Time{}
		if len(frame) > 0 {
			deadline = time.Now().Add(frameGap)
		}
		_ = t.SetReadDeadline(deadline)
		n, err := t.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			frame = frame[:0] // half a frame, or noise
			continue
		case err != nil:
			return
		}
		frame = append(frame, buf[:n]...)
		size, ok := frameSize(frame)
		switch {
		case !ok || len(frame) > maxFrame:
			frame = frame[:0]
		case len(frame) >= size && size > 0:
			if !s.onLine(t, units, frame[:size]) {
				return
			}
			frame = frame[:0]
		}
	}
}

// frameSize returns the size of the frame that begins a request, 0 if more is needed to know; false if it is no request that we know.
func frameSize(frame []byte) (int, bool) {
	if len(frame) < 2 {
		return 0, true
	}
	switch fc := frame[1]; {
	case fc >= 1 && fc <= 6:
		return 8, true
	case fc == 15 || fc == 16:
		if len(frame) < 7 {
			return 0, true
		}
		return 9 + int(frame[6]), true
	case fc == 43:
		return 7, true
	case fc == 22:
		return 10, true
	default:
		return 0, false
	}
}

// onLine answers one frame; false when the line is gone.
func (s *Simulator) onLine(t *terminal, units map[byte]*Device, frame []byte) bool {
	body := frame[:len(frame)-2]
	if got := uint16(frame[len(frame)-2]) | uint16(frame[len(frame)-1])<<8; got != crc16(body) {
		return true
	}
	if body[0] == 0 { // a broadcast: all carry it out, and nobody answers
		for _, u := range units {
			u.answer(body[1:])
		}
		return true
	}
	unit := units[body[0]]
	if unit == nil {
		return true
	}
	reply, late := unit.answer(body[1:])
	if reply == nil || !s.sleep(late) {
		return true
	}
	out := append([]byte{body[0]}, reply...)
	sum := crc16(out)
	_, err := t.Write(append(out, byte(sum), byte(sum>>8)))
	return err == nil
}

// crc16 is the check of Modbus RTU (Modbus over serial line V1.02, appendix B).
func crc16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			odd := crc & 1
			if crc >>= 1; odd == 1 {
				crc ^= 0xA001
			}
		}
	}
	return crc
}
