// Package clockstep lets the wall clock of one Go program be set, while everything else on the machine keeps the right time: programs are
// compiled with a package time of which Now has an offset. The monotonic clock, timers and the kernel's own times are as they always are, as
// when somebody sets the clock of a machine that runs.
//
//	overlay, err := clockstep.Overlay(ctx, dir)
//	… go build -overlay overlay ./firmware/cmd/skerryd …
//	… run it with clockstep.Env=FILE …
//	err = clockstep.Set(file, -365*24*time.Hour)
//
// In a test binary that was compiled so, time.SetWallClock(seconds) sets the offset. It works inside of testing/synctest, too: there times have no
// monotonic reading otherwise, and with this they have. Such programs are for tests alone.
//
// The functions may be called by any goroutine.
package clockstep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Env is the environment variable with the path of the file that holds the offset.
const Env = "SKERRY_CLOCK_FILE"

// What is replaced in package time of the toolchain: the line that reads the clocks in Now.
const (
	reads = "\tsec, nsec, mono := runtimeNow()\n"
	moved = reads + "\tif mono == 0 {\n\t\tmono = sec*1e9 + int64(nsec)\n\t}\n\tsec += wallOffset()\n"
)

// extra is the file that is added to package time. It reads the offset every 10 ms. (Not Now itself: timers call it on the system's stack.)
const extra = `package time

import (
	"sync/atomic"
	"syscall"
)

var wallShift atomic.Int64

// SetWallClock moves the wall clock of this process by so many seconds from the machine's.
func SetWallClock(seconds int64) { wallShift.Store(seconds) }

func wallOffset() int64 { return wallShift.Load() }

func init() {
	path, ok := syscall.Getenv("` + Env + `")
	if !ok {
		return
	}
	readWallClock(path)
	go func() {
		for {
			Sleep(10 * Millisecond)
			readWallClock(path)
		}
	}()
}

func readWallClock(path string) {
	fd, err := open(path)
	if err != nil {
		return
	}
	var buf [32]byte
	n, err := read(fd, buf[:])
	closefd(fd)
	if err != nil || n == 0 {
		return
	}
	var v int64
	minus := false
	for _, c := range buf[:n] {
		switch {
		case c == '-':
			minus = true
		case c >= '0' && c <= '9':
			v = 10*v + int64(c-'0')
		}
	}
	if minus {
		v = -v
	}
	wallShift.Store(v)
}
`

// Overlay writes the files below dir and returns the path for go's flag -overlay.
func Overlay(ctx context.Context, dir string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("ask go for its root: %w", err)
	}
	std := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	text, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return "", fmt.Errorf("read package time: %w", err)
	}
	if strings.Count(string(text), reads) != 1 {
		return "", errors.New("this toolchain's time.Now does not read the clocks where it did: look at it, and mend clockstep")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the folder of the overlay: %w", err)
	}
	doc, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(std, "time.go"):        filepath.Join(dir, "time.go.txt"),
		filepath.Join(std, "wall_offset.go"): filepath.Join(dir, "wall_offset.go.txt"),
	}})
	if err != nil {
		return "", err
	}
	for name, content := range map[string]string{
		"time.go.txt": strings.Replace(string(text), reads, moved, 1), "wall_offset.go.txt": extra, "overlay.json": string(doc),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return "", fmt.Errorf("write the overlay: %w", err)
		}
	}
	return filepath.Join(dir, "overlay.json"), nil
}

// Set moves the wall clock of all programs that look at file to offset from the machine's, in whole seconds. They notice within 10 ms.
func Set(file string, offset time.Duration) error {
	next := file + ".next"
	if err := os.WriteFile(next, []byte(strconv.FormatInt(int64(offset/time.Second), 10)), 0o644); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}
