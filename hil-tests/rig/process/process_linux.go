package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultGrace is how long Stop waits after SIGTERM.
const DefaultGrace = 20 * time.Second

// Spec says what to run.
type Spec struct {
	Name  string        // for messages; the base of Path if empty
	Path  string        // looked up in PATH if it has no slash
	Args  []string      // without the program's name
	Env   []string      // KEY=VALUE, added to this process's environment
	Dir   string        // working folder; this process's if empty
	Stdin string        // text on standard input, which is empty otherwise
	Log   string        // file that both outputs are appended to, made with its folder; discarded if empty
	Grace time.Duration // how long Stop waits after SIGTERM; DefaultGrace if 0
}

func (s Spec) name() string {
	if s.Name != "" {
		return s.Name
	}
	return filepath.Base(s.Path)
}

// Process is a running or ended child. Make it with Start; end it with Stop or
// Kill. All methods may be called concurrently and repeatedly.
type Process struct {
	spec      Spec
	started   time.Time
	logOffset int64 // where this run's output begins in the log
	proc      *os.Process

	done chan struct{} // closed once reaped; err is set before
	err  error
}

// Start runs the child. It returns once the child executes or could not.
func Start(spec Spec) (*Process, error) {
	cmd := command(spec)
	p := &Process{spec: spec, done: make(chan struct{})}
	if err := p.openLog(cmd); err != nil {
		return nil, err
	}
	started := make(chan error)
	go p.own(cmd, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Process) openLog(cmd *exec.Cmd) error {
	if p.spec.Log == "" {
		return nil
	}
	fail := func(err error) error {
		return fmt.Errorf("open the log of %s: %w", p.Name(), err)
	}
	if err := os.MkdirAll(filepath.Dir(p.spec.Log), 0o755); err != nil {
		return fail(err)
	}
	f, err := os.OpenFile(p.spec.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fail(err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fail(err)
	}
	p.logOffset = info.Size()
	cmd.Stdout, cmd.Stderr = f, f
	return nil
}

// own is the child's parent thread. The kernel sends the parent-death signal
// when the thread that forked ends, not the process, so this thread is kept
// for the child alone until the child ends.
func (p *Process) own(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	if f, ok := cmd.Stdout.(*os.File); ok {
		f.Close() // the child has its own
	}
	if err != nil {
		started <- fmt.Errorf("start %s: %w", p.Name(), err)
		return
	}
	p.started, p.proc = time.Now(), cmd.Process
	started <- nil
	p.err = reap(cmd)
	close(p.done)
}

// command prepares a child. No context ends it: that would kill it past Stop
// and leave its group behind.
func command(spec Spec) *exec.Cmd {
	cmd := exec.Command(spec.Path, spec.Args...) //nolint:noctx // see above
	cmd.Env = append(os.Environ(), spec.Env...)
	cmd.Dir = spec.Dir
	if spec.Stdin != "" {
		cmd.Stdin = strings.NewReader(spec.Stdin)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// reap waits for the child's end, kills what is left of its group while the
// zombie still holds the group's number, and collects the exit status.
func reap(cmd *exec.Cmd) error {
	pid := cmd.Process.Pid
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	// ESRCH cannot happen (the zombie is a member) and EPERM only for members
	// that changed their user, which this process may not end anyway.
	_ = unix.Kill(-pid, unix.SIGKILL)
	return cmd.Wait()
}

// Name is the child's name in messages.
func (p *Process) Name() string { return p.spec.name() }

// PID is the child's process id. It means nothing once Done is closed.
func (p *Process) PID() int { return p.proc.Pid }

// Started is when the child was started.
func (p *Process) Started() time.Time { return p.started }

// Done is closed when the child has ended and been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err tells how the child ended: nil for exit status 0, an *exec.ExitError
// otherwise. It is nil too while the child runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Wait blocks until the child ends and returns Err, or until ctx ends.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of %s: %w", p.Name(), context.Cause(ctx))
	}
}

// Signal sends sig to the child, not to its group. It returns os.ErrProcessDone
// if the child has ended. After SIGSTOP it waits until all threads have
// stopped: the kernel sends the signal and does not wait, and a thread on
// another processor may answer one request more.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.proc.Signal(sig); err != nil {
		return fmt.Errorf("send %v to %s: %w", sig, p.Name(), err)
	}
	if sig != syscall.SIGSTOP {
		return nil
	}
	for end := time.Now().Add(stopPatience); ; time.Sleep(time.Millisecond) {
		if stopped, err := allStopped(p.PID()); err != nil || stopped {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s still runs %v after SIGSTOP", p.Name(), stopPatience)
		}
	}
}

// stopPatience is how long a stopped process may take to stop.
const stopPatience = 5 * time.Second

// allStopped reports whether every thread of a process is stopped (proc_pid_stat(5), field 3: T, or t under a tracer).
func allStopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("process %d has ended: %w", pid, os.ErrProcessDone)
	}
	for _, path := range threads {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		i := bytes.LastIndexByte(data, ')')
		if i < 0 || i+2 >= len(data) || data[i+2] != 'T' && data[i+2] != 't' {
			return false, nil
		}
	}
	return true, nil
}

// Stop ends the child: SIGTERM, then SIGKILL to its group if it is still there
// after the grace period, which is an error. Stopping a child that has ended
// is none.
func (p *Process) Stop() error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return p.gone(err)
	}
	grace := p.spec.Grace
	if grace == 0 {
		grace = DefaultGrace
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		err := fmt.Errorf("%s did not end within %v of SIGTERM and was killed%s", p.Name(), grace, p.quoteLog())
		return errors.Join(err, p.Kill())
	}
}

// Kill ends the child and its group with SIGKILL and waits until it is reaped.
func (p *Process) Kill() error {
	// reap kills the group's other members as soon as the leader is dead.
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return p.gone(err)
	}
	<-p.done
	return nil
}

// gone turns the error of signalling an ended child into none, after waiting
// until it is reaped.
func (p *Process) gone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		<-p.done
		return nil
	}
	return err
}

// Output runs a program to its end and returns its standard output. The error
// quotes its standard error. If ctx ends first, the program and its group are
// killed. Spec.Log and Spec.Grace are not used.
func Output(ctx context.Context, spec Spec) (string, error) {
	cmd := command(spec)
	var stdout, stderr limitedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	p := &Process{spec: spec, done: make(chan struct{})}
	started := make(chan error)
	go p.own(cmd, started)
	if err := <-started; err != nil {
		return "", err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		if err := p.Kill(); err != nil {
			return "", err
		}
		return stdout.String(), fmt.Errorf("%s: %w%s", p.Name(), context.Cause(ctx), quote(stderr.String()))
	}
	if p.err != nil {
		return stdout.String(), fmt.Errorf("%s: %w%s", p.Name(), p.err, quote(stderr.String()))
	}
	return stdout.String(), nil
}
