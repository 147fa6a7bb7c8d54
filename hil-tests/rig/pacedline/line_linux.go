package pacedline

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/mappers/serialline"
)

// Options configure Open.
type Options struct {
	Path    string            // the symbolic link to the port that a driver opens
	Config  serialline.Config // its Path does not matter
	Latency time.Duration     // of the slave: from the last bit of a request to the first of its reply
	// Size says how long the request is that begins b, 0 if too little of it is there.
	Size func(b []byte) int
	// Answer appends the reply to a request to dst; nothing for a slave that does not answer.
	Answer func(dst, request []byte) []byte
}

// Report is what happened on the line so far.
type Report struct {
	Requests int
	Replies  int
	Early    int           // requests that came before the line had been silent for 3.5 characters
	Late     time.Duration // by which the ends of replies were late: the rig's own fault, or the machine's
	Idle     time.Duration // between the end of the silence after a reply and the next request: the master's
	Busy     time.Duration // the line's time for requests, latencies, replies and the silences that the standard wants
}

// Line is an open line.
type Line struct {
	opt  Options
	fd   int // the far end
	hold int // the near one, so that the far end stays usable while no driver has it open
	stop chan struct{}
	done chan error

	mu     sync.Mutex
	report Report
}

// fifo is how many bytes a UART hands on at a time.
const fifo = 8

// Open makes the line.
func Open(o Options) (*Line, error) {
	l := &Line{opt: o, fd: -1, hold: -1, stop: make(chan struct{}), done: make(chan error, 1)}
	if err := l.open(); err != nil {
		l.free()
		return nil, fmt.Errorf("paced line: %w", err)
	}
	go l.run()
	return l, nil
}

func (l *Line) open() (err error) {
	if l.fd, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(l.fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(l.fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return fmt.Errorf("set up a pseudo-terminal: %w", err)
	}
	t, err := unix.IoctlGetTermios(l.fd, unix.TCGETS)
	if err == nil {
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
		err = unix.IoctlSetTermios(l.fd, unix.TCSETS, t)
	}
	if err != nil {
		return fmt.Errorf("set up a pseudo-terminal: %w", err)
	}
	near := fmt.Sprintf("/dev/pts/%d", n)
	if l.hold, err = unix.Open(near, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	return os.Symlink(near, l.opt.Path)
}

func (l *Line) free() {
	for _, fd := range []int{l.fd, l.hold} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	_ = os.Remove(l.opt.Path)
}

// Report returns what happened so far.
func (l *Line) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.report
}

// Close ends the line, as if it were unplugged, and returns what went wrong on it.
func (l *Line) Close() error {
	close(l.stop)
	err := <-l.done
	l.free()
	return err
}

// run is the line. It has a thread of its own, with timers as exact as the kernel's: Go's are good to a millisecond.
func (l *Line) run() {
	runtime.LockOSThread() // and never unlocked: the thread, whose timer slack is changed, ends with the goroutine
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	l.done <- l.serve()
}

func (l *Line) serve() error {
	buf, reply := make([]byte, 0, 4096), make([]byte, 0, 1024)
	quiet := time.Now() // when the last byte left the line
	arrived := quiet
	for {
		n, err := l.read(buf[len(buf):cap(buf)])
		if err != nil || n == 0 {
			return err
		}
		now := time.Now()
		if len(buf) == 0 {
			l.count(func(r *Report) {
				idle := now.Sub(quiet) - l.opt.Config.FrameGap()
				if idle < 0 {
					r.Early++
				}
				if r.Requests > 0 {
					r.Idle += idle
				}
			})
			arrived = now
		}
		buf = buf[:len(buf)+n]
		arrived = later(arrived, now.Add(-l.opt.Config.CharTime(n))).Add(l.opt.Config.CharTime(n))
		size := l.opt.Size(buf)
		if size == 0 || len(buf) < size {
			continue
		}
		request := buf[:size]
		reply = l.opt.Answer(reply[:0], request)
		l.count(func(r *Report) {
			r.Requests++
			r.Busy += l.opt.Config.CharTime(size) + l.opt.Config.FrameGap()
			if len(reply) > 0 {
				r.Replies++
				r.Busy += l.opt.Latency + l.opt.Config.CharTime(len(reply))
			}
		})
		quiet = arrived
		if len(reply) > 0 {
			if quiet, err = l.send(reply, arrived.Add(l.opt.Latency)); err != nil {
				return err
			}
		}
		buf = buf[:copy(buf[:cap(buf)], buf[size:])]
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (l *Line) count(f func(*Report)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.report)
}

// read waits for bytes; 0 means that the line was closed.
func (l *Line) read(p []byte) (int, error) {
	for {
		select {
		case <-l.stop:
			return 0, nil
		default:
		}
		fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 50)
		if n == 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil {
			n, err = unix.Read(l.fd, p)
		}
		if err != nil {
			return 0, fmt.Errorf("read the far end of the line: %w", err)
		}
		return n, nil
	}
}

// send puts bytes on the line from a time on, and returns when the last one has left.
func (l *Line) send(p []byte, from time.Time) (time.Time, error) {
	end := from
	for at := 0; at < len(p); {
		n := min(fifo, len(p)-at)
		at += n
		sleepUntil(from.Add(l.opt.Config.CharTime(at)))
		end = time.Now() // before the driver can see them: it may be faster than this thread is back
		if _, err := unix.Write(l.fd, p[at-n:at]); err != nil {
			return from, fmt.Errorf("write to the far end of the line: %w", err)
		}
	}
	l.count(func(r *Report) { r.Late += end.Sub(from.Add(l.opt.Config.CharTime(len(p)))) })
	return end, nil
}

func sleepUntil(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // interrupted: the loop goes on
	}
}
