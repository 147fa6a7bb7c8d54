// Package kernellog reads the kernel's log (/dev/kmsg, Documentation/ABI/testing/dev-kmsg).
package kernellog

import (
	"errors"
	"iter"
	"strings"

	"golang.org/x/sys/unix"
)

// Path is where the kernel's log is.
const Path = "/dev/kmsg"

// Lines yields the lines that the log at path has now, oldest first; none if it cannot be read.
func Lines(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		defer unix.Close(fd)      //nolint:errcheck // nothing was written
		buf := make([]byte, 8192) // a record is never longer (CONSOLE_EXT_LOG_MAX)
		for range 1 << 16 {
			n, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EPIPE) { // records were overwritten meanwhile
				continue
			}
			if err != nil || n <= 0 {
				return
			}
			for line := range strings.Lines(string(buf[:n])) {
				if !yield(strings.TrimSuffix(line, "\n")) {
					return
				}
			}
		}
	}
}

// Newest returns the newest lines of the log at path, at most limit bytes; nil if it cannot be read.
func Newest(path string, limit int) []string {
	var out []string
	size := 0
	for line := range Lines(path) {
		out = append(out, line)
		for size += len(line) + 1; size > limit && len(out) > 1; out = out[1:] {
			size -= len(out[0]) + 1
		}
	}
	return out
}

// KilledForMemory tells whether the log at path says that the kernel killed a process of a container for want of memory, in whichever cgroup the memory was
// short (mm/oom_kill.c, dump_oom_summary; Linux 5.0 and later).
func KilledForMemory(path, container string) bool {
	if container == "" {
		return false
	}
	for line := range Lines(path) {
		_, summary, ok := strings.Cut(line, "oom-kill:")
		if !ok {
			continue
		}
		if _, group, ok := strings.Cut(summary, ",task_memcg="); ok {
			group, _, _ = strings.Cut(group, ",task=")
			if strings.Contains(group[strings.LastIndexByte(group, '/')+1:], container) {
				return true
			}
		}
	}
	return false
}
