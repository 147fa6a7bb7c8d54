// Package regular opens files that others may have put links, pipes or devices in the place of: logs and termination messages, which lie where pods with a
// hostPath can write.
//
//	f, info, err := regular.Open("/var/log/pods/…/0.log")
//
// A link could show a pod's owner, by `kubectl logs`, any file that root may read; a pipe would hold the reader for ever. To look at a path
// first and to open it then is not enough: the two can change places in between. Only the path's last element is looked at: who may replace its folders has
// those files anyway.
//
// Open may be called by any goroutine. Its test has a link and a file change places all the while.
package regular

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// swaps is how often a file may have become another one, as by a rotation, between two looks.
const swaps = 5

// Open opens a file to be read, and returns what it is. One that is no regular file is an error.
func Open(path string) (*os.File, os.FileInfo, error) {
	for attempt := 0; ; attempt++ {
		before, err := os.Lstat(path)
		if err != nil {
			return nil, nil, err
		}
		if !before.Mode().IsRegular() {
			return nil, nil, fmt.Errorf("%s is not a regular file", path)
		}
		f, err := open(path)
		if err != nil {
			return nil, nil, err
		}
		info, err := f.Stat()
		if err == nil && os.SameFile(before, info) {
			return f, info, nil
		}
		_ = f.Close()
		if err == nil && attempt >= swaps {
			err = fmt.Errorf("%s is replaced all the time", path)
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// open does not wait for somebody to write to what has become a pipe.
func open(path string) (*os.File, error) {
	return os.OpenFile(filepath.Clean(path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
}
