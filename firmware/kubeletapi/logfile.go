package kubeletapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/skerry/skerry/firmware/regular"
)

const (
	logBlock = 32 << 10 // bytes that are read at once
	// maxGenerations bounds how many rotated files are looked for.
	maxGenerations = 1000
	// gap is how many files in a row may be missing in the middle of a rotation, which renames them one after the other; the runtime makes
	// the newest only when it is told to.
	gap = 2
)

// logFiles are the files of one run of a container, oldest first, that were there at one moment. The last is the one that is written to.
type logFiles struct {
	path  string // of the last
	files []*os.File
	sizes []int64
}

func generation(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// openLogs opens PATH, PATH.1, PATH.2 … It begins with the newest: a rotation in between gives one file twice, which is found, and never
// loses one. fs.ErrNotExist: there is none.
func openLogs(path string) (*logFiles, error) {
	l := &logFiles{path: path}
	var infos []os.FileInfo
	for i, missing := 0, 0; i < maxGenerations; i++ {
		f, info, err := regular.Open(generation(path, i))
		if errors.Is(err, fs.ErrNotExist) {
			if missing++; missing > gap {
				break
			}
			continue
		}
		missing = 0
		if err != nil {
			l.close()
			return nil, err
		}
		if len(infos) > 0 && os.SameFile(infos[len(infos)-1], info) {
			_ = f.Close()
			continue
		}
		l.files, infos, l.sizes = append(l.files, f), append(infos, info), append(l.sizes, info.Size())
	}
	if len(l.files) == 0 {
		return nil, fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
	}
	for i, j := 0, len(l.files)-1; i < j; i, j = i+1, j-1 {
		l.files[i], l.files[j] = l.files[j], l.files[i]
		l.sizes[i], l.sizes[j] = l.sizes[j], l.sizes[i]
	}
	return l, nil
}

func (l *logFiles) close() {
	for _, f := range l.files {
		_ = f.Close()
	}
}

// next returns the file that was begun after f, nil if f is still the newest. A reader that was overtaken by more rotations than files
// are kept goes on with the oldest that is there.
func (l *logFiles) next(f *os.File) (*os.File, error) {
	mine, err := f.Stat()
	if err != nil {
		return nil, err
	}
	newer := -1
	last := -1
	for i, missing := 0, 0; i < maxGenerations; i++ {
		info, err := os.Lstat(generation(l.path, i))
		if errors.Is(err, fs.ErrNotExist) {
			if missing++; missing > gap {
				break
			}
			continue
		}
		missing = 0
		if err != nil {
			return nil, err
		}
		if os.SameFile(info, mine) {
			if newer < 0 {
				return nil, nil
			}
			return l.openGeneration(newer)
		}
		newer, last = i, i
	}
	if last < 0 {
		return nil, nil // the runtime has not made the new file yet, or all were removed
	}
	return l.openGeneration(last)
}

func (l *logFiles) openGeneration(i int) (*os.File, error) {
	f, _, err := regular.Open(generation(l.path, i))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // renamed meanwhile: the next look finds it
	}
	return f, err
}

// tail returns where the last n lines of the container's begin: in which file, and at which byte. A line that was written in parts counts
// once; one that has no end yet does not count, and is part of what is returned.
func (l *logFiles) tail(n int64) (file int, offset int64, err error) {
	last := len(l.files) - 1
	if n == 0 {
		return last, l.sizes[last], nil
	}
	var lines int64
	for i := last; i >= 0; i-- {
		at, found, err := tailOf(l.files[i], l.sizes[i], n, &lines)
		if err != nil {
			return 0, 0, err
		}
		if found {
			return i, at, nil
		}
	}
	return 0, 0, nil
}

// tailOf looks for the end of the line before the last n of those of which *lines were counted before; it reads the file backwards.
func tailOf(f io.ReaderAt, size, n int64, lines *int64) (offset int64, found bool, err error) {
	block := make([]byte, logBlock)
	end := int64(-1) // where the physical line whose beginning is looked for ends, newline included; -1: none has been found
	for high := size; high > 0; {
		low := max(0, high-logBlock)
		part := block[:high-low]
		if _, err := f.ReadAt(part, low); err != nil && !errors.Is(err, io.EOF) {
			return 0, false, err
		}
		for rest := part; ; {
			i := bytes.LastIndexByte(rest, '\n')
			if i < 0 {
				break
			}
			at := low + int64(i) + 1 // here a physical line ends, and the one after it begins
			if end >= 0 && counts(f, at, end) {
				if *lines++; *lines > n {
					return end, true, nil
				}
			}
			end = at
			rest = rest[:i]
		}
		high = low
	}
	if end >= 0 && counts(f, 0, end) {
		if *lines++; *lines > n {
			return end, true, nil
		}
	}
	return 0, false, nil
}

// counts reports whether the physical line from start to end ends a line of the container's.
func counts(f io.ReaderAt, start, end int64) bool {
	var head [maxLogHead]byte
	n, _ := f.ReadAt(head[:min(int64(len(head)), end-start)], start)
	h, _, ok := parseLogHead(bytes.TrimSuffix(head[:n], []byte("\n")))
	return !ok || !h.partial
}

// attempts returns the numbers of the runs of a container of which there are logs in its folder.
func attempts(dir string) (out []int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	seen := map[int]bool{}
	for _, e := range entries {
		number, rest, ok := strings.Cut(e.Name(), ".log")
		if !ok || rest != "" && !strings.HasPrefix(rest, ".") {
			continue
		}
		if n, err := strconv.Atoi(number); err == nil && n >= 0 && !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}
