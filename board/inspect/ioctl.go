package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNoRS485 tells that a port's driver knows nothing of RS-485.
var errNoRS485 = errors.New("the driver has no RS-485 mode")

// kernelRS485 asks a port whether its driver switches a transmitter. It neither waits for a carrier nor takes the port as a terminal.
func kernelRS485(path string) (enabled bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY, 0) //nolint:gosec // a device file of the board
	if err != nil {
		return false, err
	}
	defer f.Close()
	var arg [8]uint32                                                                                // struct serial_rs485 of linux/serial.h: eight 32-bit words on every architecture, the first one flags
	_, _, no := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.TIOCGRS485, uintptr(unsafe.Pointer(&arg))) //nolint:gosec // the ioctl's own structure
	runtime.KeepAlive(&arg)
	switch {
	case no == unix.ENOTTY || no == unix.EINVAL || no == unix.ENOSYS: // the last one is an emulator's word for it
		return false, errNoRS485
	case no != 0:
		return false, fmt.Errorf("TIOCGRS485: %w", no)
	}
	return arg[0]&1 != 0, nil // SER_RS485_ENABLED
}

// gpioGetChipInfo is GPIO_GET_CHIPINFO_IOCTL of linux/gpio.h: _IOR(0xB4, 1, struct gpiochip_info).
const gpioGetChipInfo = 0x8044B401

// gpioChips asks every controller below dev for its name, label and lines. It changes nothing: lines are only taken by a request.
func gpioChips(dev string) ([]Chip, error) {
	paths, err := filepath.Glob(filepath.Join(dev, "gpiochip*"))
	if err != nil {
		return nil, err
	}
	var out []Chip
	for _, p := range paths {
		chip, err := gpioChip(p)
		if err != nil {
			return out, fmt.Errorf("ask %s: %w", p, err)
		}
		out = append(out, chip)
	}
	return out, nil
}

func gpioChip(path string) (Chip, error) {
	f, err := os.Open(path) //nolint:gosec // a device file
	if err != nil {
		return Chip{}, err
	}
	defer f.Close()
	var info struct {
		name, label [32]byte
		lines       uint32
	}
	_, _, no := unix.Syscall(unix.SYS_IOCTL, f.Fd(), gpioGetChipInfo, uintptr(unsafe.Pointer(&info))) //nolint:gosec // the ioctl's own structure
	runtime.KeepAlive(&info)
	if no != 0 {
		return Chip{}, no
	}
	text := func(b []byte) string {
		b, _, _ = bytes.Cut(b, []byte{0})
		return strings.ToValidUTF8(string(b), "?")
	}
	return Chip{Name: text(info.name[:]), Label: text(info.label[:]), Lines: int(info.lines)}, nil
}
