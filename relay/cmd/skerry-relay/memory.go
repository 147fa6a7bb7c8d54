package main

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// tuneMemory sets what the runtime does about garbage, unless the environment says it (GOGC, GOMEMLIMIT). Most of a relay's memory
// is held for as long as agents are connected; collecting early costs little, and room for as much garbage again is what a
// container would have to be given for nothing.
func tuneMemory(gcPercent int, log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit, ok := cgroupLimit(os.ReadFile); ok {
		debug.SetMemoryLimit(softLimit(limit))
		log.Info("memory is limited", slog.String("container", mebibytes(limit)), slog.String("garbage is collected above", mebibytes(softLimit(limit))))
	}
}

// softLimit leaves a tenth to what the runtime does not count.
func softLimit(limit int64) int64 { return limit - limit/10 }

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// cgroupLimit returns the container's memory limit in bytes: of cgroup v2, or of v1. In a container both are below /sys/fs/cgroup.
func cgroupLimit(read func(string) ([]byte, error)) (int64, bool) {
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := read(path)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		// v2 says "max", v1 a number near 2^63, where there is no limit.
		return n, err == nil && n > 0 && n < math.MaxInt64/2
	}
	return 0, false
}
