package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Real processes live in real time, so these tests wait for events, each with
// a limit that only a failure reaches.
const limit = 20 * time.Second

// sh starts a shell that prints "up" once it has run script's first part, and
// waits for that.
func sh(t *testing.T, script string, change ...func(*Spec)) *Process {
	t.Helper()
	spec := Spec{Name: "child", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "log", "child.log")}
	for _, c := range change {
		c(&spec)
	}
	p, err := Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	if strings.Contains(script, "echo up") {
		within(t, "the child is up", func() bool { return strings.Contains(p.LogTail(100), "up") })
	}
	return p
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// alive is false for a zombie: its reaper may be slow.
func alive(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(data), ") ") // proc(5): pid (comm) state …
	return !strings.HasPrefix(after, "Z")
}

// pidIn waits for a PID that a script writes to a file.
func pidIn(t *testing.T, path string) int {
	t.Helper()
	var pid int
	within(t, path+" holds a PID", func() bool {
		data, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(string(data), "\n") {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	})
	return pid
}

func TestStopLetsTheChildEndByItself(t *testing.T) {
	p := sh(t, `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("the child's end: %v", err)
	}
	if tail := p.LogTail(1); tail != "bye" {
		t.Errorf("the last line of the log is %q", tail)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("the second Stop: %v", err)
	}
}

func TestStopKillsAChildThatIgnoresIt(t *testing.T) {
	p := sh(t, `trap '' TERM; echo up; while :; do sleep 0.05; done`, func(s *Spec) { s.Grace = 100 * time.Millisecond })
	err := p.Stop()
	if err == nil || !strings.Contains(err.Error(), "child did not end within 100ms") {
		t.Errorf("Stop: %v", err)
	}
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the child's end: %v", p.Err())
	}
}

func TestNothingOfTheGroupSurvives(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(t *testing.T, p *Process)
		last string
	}{
		{name: "Kill", last: "wait", end: func(t *testing.T, p *Process) {
			if err := p.Kill(); err != nil {
				t.Error(err)
			}
		}},
		{name: "Stop", last: "wait", end: func(t *testing.T, p *Process) {
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
		}},
		{name: "its own end", last: "exit 3", end: func(t *testing.T, p *Process) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			var exit *exec.ExitError
			if err := p.Wait(ctx); !errors.As(err, &exit) || exit.ExitCode() != 3 {
				t.Errorf("Wait: %v", err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			p := sh(t, `sleep 1000 & echo $! >`+file+`; echo up; `+tc.last)
			grandchild := pidIn(t, file)
			tc.end(t, p)
			within(t, "the grandchild is gone", func() bool { return !alive(grandchild) })
		})
	}
}

// TestTheChildDiesWithItsParent lets this test binary be the parent, started
// anew with an environment variable, and kills it.
func TestTheChildDiesWithItsParent(t *testing.T) {
	const variable = "SKERRY_PROCESS_TEST_PID_FILE"
	if file := os.Getenv(variable); file != "" {
		if _, err := Start(Spec{Path: "/bin/sh", Args: []string{"-c", "echo $$ >" + file + "; exec sleep 1000"}}); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pid")
	parent, err := Start(Spec{Path: exe, Args: []string{"-test.run=^TestTheChildDiesWithItsParent$"}, Env: []string{variable + "=" + file}})
	if err != nil {
		t.Fatal(err)
	}
	child := pidIn(t, file)
	if err := parent.Kill(); err != nil {
		t.Fatal(err)
	}
	within(t, "the child is gone", func() bool { return !alive(child) })
}

func TestStartTellsWhatIsMissing(t *testing.T) {
	_, err := Start(Spec{Name: "relay", Path: "/nonexistent/skerry-relay"})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "start relay") {
		t.Errorf("Start: %v", err)
	}
}

func TestLogTailIsThisRunsOnly(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte("an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Start(Spec{Path: "/bin/sh", Args: []string{"-c", "echo out; echo err >&2"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if got, want := p.LogTail(10), "out\nerr"; got != want {
		t.Errorf("LogTail = %q, want %q", got, want)
	}
	if got, want := p.LogTail(1), "err"; got != want {
		t.Errorf("LogTail(1) = %q, want %q", got, want)
	}
}

func TestWaitReady(t *testing.T) {
	notYet := errors.New("connection refused")
	t.Run("the child ends first", func(t *testing.T) {
		p := sh(t, `echo "port in use" >&2; exit 1`)
		err := WaitReady(t.Context(), p, "the port is open", nil, func(context.Context) error { return notYet })
		if err == nil || !strings.Contains(err.Error(), "child ended (exit status 1) before the port is open") || !strings.Contains(err.Error(), "\n    port in use") {
			t.Errorf("WaitReady: %v", err)
		}
	})
	t.Run("the context ends first", func(t *testing.T) {
		p := sh(t, `echo up; sleep 1000`)
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		err := WaitReady(ctx, p, "the port is open", nil, func(context.Context) error { return notYet })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, notYet) || !strings.Contains(err.Error(), "wait until the port is open") {
			t.Errorf("WaitReady: %v", err)
		}
	})
	t.Run("the third attempt succeeds", func(t *testing.T) {
		p := sh(t, `echo up; sleep 1000`)
		tries := 0
		err := WaitReady(t.Context(), p, "the port is open", nil, func(context.Context) error {
			if tries++; tries < 3 {
				return notYet
			}
			return nil
		})
		if err != nil || tries != 3 {
			t.Errorf("WaitReady: %v after %d attempts", err, tries)
		}
	})
}

func TestOutput(t *testing.T) {
	out, err := Output(t.Context(), Spec{Path: "/bin/sh", Args: []string{"-c", `echo "$GREETING"; pwd; echo noise >&2`}, Env: []string{"GREETING=hello"}, Dir: "/"})
	if err != nil || out != "hello\n/\n" {
		t.Errorf("Output = %q, %v", out, err)
	}
	if out, err = Output(t.Context(), Spec{Path: "cat", Stdin: "a manifest"}); err != nil || out != "a manifest" {
		t.Errorf("Output = %q, %v", out, err)
	}
	_, err = Output(t.Context(), Spec{Name: "kubectl", Path: "/bin/sh", Args: []string{"-c", "echo no such pod >&2; exit 1"}})
	if err == nil || err.Error() != "kubectl: exit status 1: no such pod" {
		t.Errorf("Output: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err = Output(ctx, Spec{Path: "/bin/sh", Args: []string{"-c", "sleep 1000; echo"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Output: %v", err)
	}
}

func TestReadMemory(t *testing.T) {
	m, err := ReadMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if m.RSS < 1<<20 || m.PSS <= 0 || m.PSS > m.RSS || m.Anonymous <= 0 || m.Anonymous > m.RSS {
		t.Errorf("implausible: %+v", m)
	}
}

// TestStoppedMeansStopped: once Signal has returned, the child has stopped; it goes on when it is told to, and one that has ended is an error.
func TestStoppedMeansStopped(t *testing.T) {
	p := sh(t, `echo up; while :; do :; done`)
	for round := range 20 {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if stopped, err := allStopped(p.PID()); err != nil || !stopped {
			t.Fatalf("round %d: stopped %v, %v", round, stopped, err)
		}
		if err := p.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	if stopped, err := allStopped(p.PID()); err != nil || stopped {
		t.Errorf("told to go on: stopped %v, %v", stopped, err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGSTOP); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a child that has ended: %v", err)
	}
}
