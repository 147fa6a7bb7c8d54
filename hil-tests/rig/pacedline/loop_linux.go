package pacedline

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Loop is a master that does nothing but what a master must: it writes a request, reads size bytes and waits for gap after the last of them, again and
// again for d. It has a thread of its own and no runtime between it and the kernel: what it reaches is what line and machine allow. It returns
// how many replies came.
func Loop(path string, request []byte, size int, gap, d time.Duration) (replies int, err error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: see Line.run
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
		replies, err = loop(path, request, size, gap, d)
		done <- err
	}()
	if err := <-done; err != nil {
		return replies, fmt.Errorf("the bare loop on the line: %w", err)
	}
	return replies, nil
}

func loop(path string, request []byte, size int, gap, d time.Duration) (replies int, err error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return 0, err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 0, 10 // a second at most
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return 0, err
	}
	buf := make([]byte, size)
	time.Sleep(2 * gap)
	for end := time.Now().Add(d); time.Now().Before(end); replies++ {
		if _, err := unix.Write(fd, request); err != nil {
			return replies, err
		}
		for have := 0; have < size; {
			n, err := unix.Read(fd, buf[have:])
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return replies, err
			case n == 0:
				return replies, fmt.Errorf("%d of %d bytes came", have, size)
			}
			have += max(n, 0)
		}
		sleepUntil(time.Now().Add(gap))
	}
	return replies, nil
}
