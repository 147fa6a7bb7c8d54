package serialline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// openTTY opens a serial port, and nothing else: a path comes from a manifest, and opening the wrong device may start a watchdog.
func openTTY(path string) (int, error) {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return 0, &OpenError{Path: path, Problem: "it is not there: is the adapter plugged in? (ls -l /dev/serial/by-id shows what is)"}
	case err != nil:
		return 0, &OpenError{Path: path, Problem: "cannot be looked at", Err: err}
	}
	if !isSerial(&st) {
		return 0, &OpenError{Path: path, Problem: "is not a serial port"}
	}
	if who := session(uint64(st.Rdev)); who != "" { //nolint:unconvert // 32 bits on some architectures
		return 0, &OpenError{Path: path, Problem: "is the terminal of " + who + "; a port where people log in cannot have a device (is a getty on it?)"}
	}
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EBUSY):
			return 0, inUse(path, holders(path))
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
			return 0, &OpenError{Path: path, Problem: "the agent may not open it: it runs without the group of the port (dialout)", Err: err}
		case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EIO), errors.Is(err, unix.ENOENT):
			return 0, &OpenError{Path: path, Problem: "there is no adapter behind it", Err: err}
		default:
			return 0, &OpenError{Path: path, Problem: "cannot be opened", Err: err}
		}
	}
}

// isSerial tells serial ports and pseudo-terminals from other devices, consoles among them.
func isSerial(st *unix.Stat_t) bool {
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false
	}
	major, minor := unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)) //nolint:unconvert // 32 bits on some architectures
	switch {
	case major >= 136 && major <= 143: // Unix98 pseudo-terminals; sysfs does not list them
		return true
	case major == 5, major == 4 && minor < 64: // the console, /dev/tty, ptmx; virtual terminals
		return false
	}
	sub, err := os.Readlink(fmt.Sprintf("/sys/dev/char/%d:%d/subsystem", major, minor))
	if err != nil {
		return major == 4 || major >= 188 // without sysfs: ttyS, ttyUSB and what is numbered dynamically
	}
	return filepath.Base(sub) == "tty" || filepath.Base(sub) == "virtio-ports"
}

// session names a process whose controlling terminal the port is; "" if there is none. Bytes of a device would be taken for a person's,
// and a manifest must not reach into an administrator's terminal.
func session(rdev uint64) string {
	major, minor := unix.Major(rdev), unix.Minor(rdev)
	nr := strconv.FormatUint(uint64(minor&0xFF|major<<8|(minor&^0xFF)<<12), 10) // the kernel's new_encode_dev
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// PID (COMMAND) STATE PPID PGRP SESSION TTY_NR …: the command may contain anything.
		open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
		if open < 0 || end < open {
			continue
		}
		if fields := strings.Fields(string(b[end+1:])); len(fields) > 4 && fields[4] == nr {
			return fmt.Sprintf("%s (process %s)", b[open+1:end], strings.Split(path, "/")[2])
		}
	}
	return ""
}

// lock takes the port for this descriptor. flock(2) also keeps away a second open within this process, which TIOCEXCL does not if
// the process has CAP_SYS_ADMIN.
func lock(raw syscall.RawConn, path string) error {
	var fault error
	err := raw.Control(func(fd uintptr) {
		for {
			if fault = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(fault, unix.EINTR) {
				return
			}
		}
	})
	switch {
	case errors.Is(fault, unix.EWOULDBLOCK):
		return inUse(path, holders(path))
	case err != nil || fault != nil:
		return &OpenError{Path: path, Problem: "cannot be locked", Err: errors.Join(err, fault)}
	}
	return nil
}

func inUse(path, by string) error {
	return &OpenError{Path: path, Problem: "is in use by " + by}
}

// holders names who has the port open besides us, for the technician: "minicom (process 812)".
func holders(path string) string {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		target = path
	}
	const most = 3
	var names []string
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // what cannot be read is not ours to see
	own, seen := strconv.Itoa(os.Getpid()), map[string]bool{}
	mine := 0
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != target {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		if pid == own {
			mine++
			continue
		}
		if seen[pid] || len(names) == most {
			continue
		}
		seen[pid] = true
		comm, _ := os.ReadFile("/proc/" + pid + "/comm")
		names = append(names, fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(comm)), pid))
	}
	switch {
	case len(names) > 0:
		return strings.Join(names, ", ")
	case mine > 1: // one of them is the attempt itself
		return "another device of this agent: with another protocol, other line settings or another name of the same port"
	default:
		return "another program"
	}
}
