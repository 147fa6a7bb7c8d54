package process

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory is what a process holds of the machine's memory, in bytes.
type Memory struct {
	RSS       int64 // resident, shared pages counted in full
	PSS       int64 // resident, each shared page divided by its users: the honest cost
	Anonymous int64 // of RSS, not backed by a file: heap and stacks
	SwapPSS   int64 // swapped out, divided as PSS
}

// Memory reads the child's memory.
func (p *Process) Memory() (Memory, error) { return ReadMemory(p.PID()) }

// ReadMemory reads /proc/PID/smaps_rollup (proc(5)), which counts pages exactly
// where /proc/PID/status is approximate. The caller must own the process or be
// root.
func ReadMemory(pid int) (Memory, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return Memory{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	m, err := parseRollup(data)
	if err != nil {
		return Memory{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	return m, nil
}

// parseRollup understands lines such as "Pss:    1234 kB". A kernel thread and
// a zombie have an empty file; that is an error, not zero bytes.
func parseRollup(data []byte) (Memory, error) {
	var m Memory
	fields := map[string]*int64{"Rss": &m.RSS, "Pss": &m.PSS, "Anonymous": &m.Anonymous, "SwapPss": &m.SwapPSS}
	found := 0
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		key, rest, ok := strings.Cut(lines.Text(), ":")
		target := fields[key]
		if !ok || target == nil {
			continue
		}
		value, unit, _ := strings.Cut(strings.TrimSpace(rest), " ")
		kib, err := strconv.ParseInt(value, 10, 64)
		if err != nil || unit != "kB" {
			return Memory{}, fmt.Errorf("smaps_rollup has the line %q", lines.Text())
		}
		*target = kib << 10
		found++
	}
	if err := lines.Err(); err != nil {
		return Memory{}, err
	}
	if m.RSS == 0 || found < 2 {
		return Memory{}, fmt.Errorf("smaps_rollup tells no resident memory: the process has ended or is a kernel thread")
	}
	return m, nil
}
