package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Go knows (proc(5), sysconf(_SC_CLK_TCK)).
const ticksPerSecond = 100

// ReadCPU reads the processor time that all threads of a process have used, in user mode and in the kernel, to the hundredth of
// a second (proc_pid_stat(5)).
func ReadCPU(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	d, err := parseStat(data)
	if err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	return d, nil
}

// parseStat adds utime and stime, fields 14 and 15. The second field, the name in brackets, may contain anything, brackets and
// spaces too; the third follows its last bracket.
func parseStat(data []byte) (time.Duration, error) {
	i := bytes.LastIndexByte(data, ')')
	fields := bytes.Fields(data[i+1:])
	const utime, stime = 14 - 3, 15 - 3
	if i < 0 || len(fields) <= stime {
		return 0, fmt.Errorf("stat has the line %q", data)
	}
	var ticks int64
	for _, f := range []int{utime, stime} {
		n, err := strconv.ParseInt(string(fields[f]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat has the line %q: %w", data, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// MachineCPU reads the processor time that the whole machine has spent on anything but waiting (the first line of /proc/stat).
func MachineCPU() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read the machine's processor time: %w", err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	fields := bytes.Fields(line)
	const idle, iowait, guest = 4, 5, 9
	var ticks int64
	for i, f := range fields {
		if i == 0 || i == idle || i == iowait || i >= guest { // guests are in user time already
			continue
		}
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the machine's processor time: /proc/stat has %q: %w", line, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}
