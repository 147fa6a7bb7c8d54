package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/durable"
)

const crashName = "crash.out" // what the Go runtime writes to when the agent dies by its own fault

// CatchCrashes has the Go runtime write to the journal, too, why the agent dies and what its goroutines were doing. The next Open sorts it out. It is for the process as a whole, so main calls it.
func (j *Journal) CatchCrashes() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	f, err := os.OpenFile(j.path(crashName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("catch crashes: %w", err)
	}
	debug.SetTraceback("all")
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		_ = f.Close()
		return fmt.Errorf("catch crashes: %w", err)
	}
	j.crash = f
	return nil
}

// closeCrash ends what CatchCrashes began. The lock is held.
func (j *Journal) closeCrash() {
	if j.crash == nil {
		return
	}
	_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	_ = j.crash.Close()
	_ = os.Remove(j.path(crashName))
	j.crash = nil
}

// keepCrash keeps what the last run left when it crashed, and returns its file and the line that says why; "" if it did not crash.
func (j *Journal) keepCrash(name string) (file, headline string) {
	b, err := readSome(j.path(crashName), CrashBytes)
	if err != nil || len(b) == 0 {
		return "", ""
	}
	j.dropOldCrashes(Crashes - 1)
	file = name + ".txt"
	if err := durable.Replace(j.path(file), b, 0o600); err != nil {
		j.o.Log.Warn("the last words of an agent that crashed could not be kept", "error", err)
		file = ""
	}
	_ = os.Remove(j.path(crashName))
	return file, crashLine(string(b))
}

// crashLine returns what a Go program said when it died, and in which function of ours.
func crashLine(text string) string {
	head, where := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case head == "" && line != "":
			head = line
			if strings.HasPrefix(line, "runtime stack:") || strings.HasPrefix(line, "goroutine ") {
				head = "fatal error of the Go runtime" // its own words went to the log alone
			}
		case head == "" || where != "":
		case strings.HasPrefix(line, "github.com/skerry/skerry/") || strings.HasPrefix(line, "main."):
			where = strings.TrimPrefix(line, "github.com/skerry/skerry/")
			if i := strings.LastIndexByte(where, '('); i > 0 {
				where = where[:i]
			}
		}
	}
	if where != "" {
		head += " (in " + where + ")"
	}
	return clip(head, 300)
}

// CrashFiles returns the names of what is kept of crashes in dir, the newest first.
func CrashFiles(dir string) []string {
	var out []string
	for _, pattern := range []string{"agent-*.txt", "wedged-*.txt", "kernel-*.txt"} {
		m, _ := filepath.Glob(filepath.Join(dir, pattern))
		out = append(out, m...)
	}
	age := map[string]int64{}
	for _, f := range out {
		if info, err := os.Stat(f); err == nil {
			age[f] = info.ModTime().UnixNano()
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		if age[a] != age[b] {
			return map[bool]int{true: -1, false: 1}[age[a] > age[b]]
		}
		return strings.Compare(b, a)
	})
	for i := range out {
		out[i] = filepath.Base(out[i])
	}
	return out
}

// dropOldCrashes removes all but the newest crash files.
func (j *Journal) dropOldCrashes(keep int) {
	files := CrashFiles(j.o.Dir)
	for _, f := range files[min(len(files), keep):] {
		_ = os.Remove(j.path(f))
	}
}

// allStacks returns the stacks of all goroutines, CrashBytes at most.
func allStacks() []byte {
	b := make([]byte, CrashBytes-4096)
	return b[:runtime.Stack(b, true)]
}
