package fleet

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// spareFiles are for everything but the agents' sockets.
const spareFiles = 500

// needFiles raises the soft limit of open files, and says what is in the way if the hard one is too low. Children inherit it,
// and the relay needs as many.
func needFiles(agents int) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	want := uint64(agents + spareFiles)
	if l.Cur >= want {
		return nil
	}
	raised := unix.Rlimit{Cur: want, Max: max(l.Max, want)}
	if want <= l.Max {
		raised.Max = l.Max
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
		return fmt.Errorf("%d agents need %d open files, the hard limit is %d: %w: raise it (ulimit -Hn %d, as root) or take fewer agents", agents, want, l.Max, err, want)
	}
	return nil
}
