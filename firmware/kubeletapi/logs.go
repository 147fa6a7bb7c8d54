package kubeletapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// How often a log that is followed is looked at, and how often the runtime is asked whether its container still runs.
const (
	followLook   = 200 * time.Millisecond
	followAsk    = time.Second
	followLinger = 2 // looks after the container's end, or after a new file was found, until nothing more is expected
)

func (s *Server) serveLogs(w http.ResponseWriter, r *http.Request) {
	o, err := parseLogOptions(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	p, c, ok := s.container(w, r)
	if !ok {
		return
	}
	if why := s.noFollow(); o.follow && why != "" {
		http.Error(w, "logs cannot be followed now: "+why+". Ask without -f, or later", http.StatusServiceUnavailable)
		return
	}
	run, err := s.findRun(r.Context(), p, c.Name, o.previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	files, err := openLogs(run.path)
	if errors.Is(err, fs.ErrNotExist) && run.id != "" {
		// Started, and nothing written yet: the runtime makes the file when it starts the container.
		err = fmt.Errorf("the log of container %q in pod %q is not there (%s): nothing was written yet, or it was removed", c.Name, p.Name, run.path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer files.close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	flush := func() error {
		// Who has not taken what was written before then is gone, whatever the connection says.
		_ = rc.SetWriteDeadline(time.Now().Add(s.o.Idle))
		return rc.Flush()
	}
	_ = flush() // whoever follows sees that there is somebody
	out := &logWriter{to: w, o: o, left: o.limit}
	reader := &logReader{files: files, out: out, flush: flush}
	if o.follow && !run.over {
		reader.over = func(ctx context.Context) bool { return s.ended(ctx, run.id) }
		reader.stop = s.noFollow
	}
	if err := reader.run(r.Context()); err != nil && !errors.As(err, new(errLimit)) && r.Context().Err() == nil {
		s.log.Debug("kubelet API: reading a log ended", "pod", p.Namespace+"/"+p.Name, "container", c.Name, "error", err)
	}
}

// noFollow says why logs cannot be followed; "": they can.
func (s *Server) noFollow() string {
	if s.o.NoFollow == nil {
		return ""
	}
	return s.o.NoFollow()
}

// logRun is one run of a container.
type logRun struct {
	id   string // of the container in the runtime; empty: it is not known there
	path string
	over bool // it has ended
}

// findRun finds the run of a container whose log is asked for. What the runtime says comes first; runs that it does not know (any more), or
// all if it does not answer, are found by their files.
func (s *Server) findRun(ctx context.Context, p Pod, container string, previous bool) (logRun, error) {
	dir := filepath.Join(s.o.LogDir, p.Namespace+"_"+p.Name+"_"+p.UID, container)
	runs := map[int]logRun{}
	for _, n := range attempts(dir) {
		runs[n] = logRun{path: filepath.Join(dir, strconv.Itoa(n)+".log"), over: true}
	}
	ask, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	known, err := s.o.Runtime.ListContainers(ask, &cri.ContainerFilter{LabelSelector: map[string]string{labelPodUID: p.UID, labelContainer: container}})
	created := map[int]int64{}
	for i := range known {
		c := &known[i]
		if c.Metadata == nil || c.State == cri.ContainerCreated {
			continue
		}
		n := int(c.Metadata.Attempt)
		if _, ok := runs[n]; ok && c.CreatedAt < created[n] {
			continue // the same number in a newer sandbox writes to the same file
		}
		created[n] = c.CreatedAt
		runs[n] = logRun{id: c.ID, path: filepath.Join(dir, strconv.Itoa(n)+".log"), over: c.State != cri.ContainerRunning}
	}
	numbers := make([]int, 0, len(runs))
	for n := range runs {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	if len(numbers) > 0 && err != nil { // the runtime does not answer: the newest may still run
		newest := numbers[len(numbers)-1]
		run := runs[newest]
		run.over = false
		runs[newest] = run
	}
	if previous {
		// A container that waits for its next start has its last run behind it.
		if n := len(numbers); n > 0 && !(runs[numbers[n-1]].over && waits(p.Status, container)) {
			numbers = numbers[:n-1]
		}
		if len(numbers) == 0 {
			return logRun{}, fmt.Errorf("previous terminated container %q in pod %q not found", container, p.Name)
		}
	}
	if len(numbers) == 0 {
		return logRun{}, notStarted(p, container)
	}
	return runs[numbers[len(numbers)-1]], nil
}

// statusOf returns a container's status, nil if there is none.
func statusOf(s *corev1.PodStatus, name string) *corev1.ContainerStatus {
	if s == nil {
		return nil
	}
	for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func waits(s *corev1.PodStatus, name string) bool {
	c := statusOf(s, name)
	return c != nil && c.State.Waiting != nil
}

// notStarted says why there is no log. The beginnings are those of a kubelet, because tools look for them.
func notStarted(p Pod, container string) error {
	c := statusOf(p.Status, container)
	switch {
	case c == nil && p.Status != nil && p.Status.Reason != "":
		return fmt.Errorf("container %q in pod %q is not available: %s: %s", container, p.Name, p.Status.Reason, p.Status.Message)
	case c == nil:
		return fmt.Errorf("container %q in pod %q is not available: the agent has not looked at the pod yet", container, p.Name)
	case c.State.Waiting != nil:
		text := fmt.Sprintf("container %q in pod %q is waiting to start: %s", container, p.Name, c.State.Waiting.Reason)
		if c.State.Waiting.Message != "" {
			text += ": " + c.State.Waiting.Message
		}
		return errors.New(text)
	case c.State.Terminated != nil:
		return fmt.Errorf("container %q in pod %q is terminated, and its log is not there any more", container, p.Name)
	}
	return fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", container, p.Name)
}

// whyNot says for people what a container that does not run does.
func whyNot(s *corev1.PodStatus, name string) string {
	c := statusOf(s, name)
	switch {
	case c == nil:
		return ""
	case c.State.Waiting != nil:
		return fmt.Sprintf(": it waits (%s)", c.State.Waiting.Reason)
	case c.State.Terminated != nil:
		return fmt.Sprintf(": it has ended with exit code %d (%s)", c.State.Terminated.ExitCode, c.State.Terminated.Reason)
	}
	return ""
}

// ended reports whether a container does not run any more. While the runtime does not answer, it is not known to have ended.
func (s *Server) ended(ctx context.Context, id string) bool {
	if id == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := s.o.Runtime.ListContainers(ctx, &cri.ContainerFilter{ID: id})
	return err == nil && (len(list) == 0 || list[0].State != cri.ContainerRunning)
}

// logReader reads the files of one run and, if over is set, goes on until it returns true and all has been read.
type logReader struct {
	files *logFiles
	out   *logWriter
	flush func() error
	over  func(ctx context.Context) bool // nil: what is there now is enough
	stop  func() string                  // why to follow no longer; "": go on; goes with over

	buf  []byte
	more bool // the line that is being read has begun already
}

func (l *logReader) run(ctx context.Context) error {
	first, offset := 0, int64(0)
	if l.out.o.tail >= 0 {
		var err error
		if first, offset, err = l.files.tail(l.out.o.tail); err != nil {
			return err
		}
	}
	last := len(l.files.files) - 1
	for i := first; i <= last; i++ {
		f := l.files.files[i]
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return err
		}
		var from io.Reader = f
		if i == last && l.over != nil {
			return l.follow(ctx, f)
		}
		if i == last { // a container that writes faster than this reads must not keep it for ever
			from = io.LimitReader(f, max(0, l.files.sizes[i]-offset))
		}
		offset = 0
		if err := l.copy(ctx, from, true); err != nil {
			return err
		}
	}
	return l.flush()
}

// copy writes what can be read from a file now. end says that no more will come behind it.
func (l *logReader) copy(ctx context.Context, from io.Reader, end bool) error {
	if l.buf == nil {
		l.buf = make([]byte, 0, logBlock)
	}
	for {
		n, err := from.Read(l.buf[len(l.buf):cap(l.buf)])
		l.buf = l.buf[:len(l.buf)+n]
		if werr := l.lines(); werr != nil {
			return werr
		}
		switch {
		case errors.Is(err, io.EOF):
			if end {
				return l.rest()
			}
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// lines writes the whole lines in the buffer, and a piece of one that is longer than the buffer.
func (l *logReader) lines() error {
	rest := l.buf
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		if err := l.emit(rest[:i], false); err != nil {
			return err
		}
		rest = rest[i+1:]
	}
	if len(rest) == cap(l.buf) {
		if err := l.emit(rest, true); err != nil {
			return err
		}
		rest = nil
	}
	l.buf = l.buf[:copy(l.buf, rest)]
	return nil
}

func (l *logReader) emit(line []byte, more bool) error {
	begun := l.more
	l.more = more
	if begun {
		return l.out.piece(line, more)
	}
	return l.out.begin(line, more)
}

// rest writes a last line that has no end.
func (l *logReader) rest() error {
	line := l.buf
	l.buf = l.buf[:0]
	if len(line) == 0 && !l.more {
		return nil
	}
	return l.emit(line, false)
}

// follow reads the newest file, and those that come after it, until the container has ended.
func (l *logReader) follow(ctx context.Context, f *os.File) error {
	tick := time.NewTicker(followLook)
	defer tick.Stop()
	asked := time.Now()
	overFor, turnedFor := 0, 0
	opened := (*os.File)(nil) // f, if it is not one of l.files
	defer func() {
		if opened != nil {
			_ = opened.Close()
		}
	}()
	for {
		if err := l.copy(ctx, f, false); err != nil {
			return err
		}
		if err := l.flush(); err != nil {
			return err
		}
		if why := l.stop(); why != "" {
			return errors.Join(l.out.farewell("following ended: "+why+". Ask without -f, or later"), l.flush())
		}
		next, err := l.files.next(f)
		if err != nil {
			return err
		}
		switch {
		case next != nil && turnedFor < followLinger: // the runtime may still be writing its last line to the old file
			_ = next.Close()
			turnedFor++
		case next != nil:
			if err := l.copy(ctx, f, true); err != nil {
				_ = next.Close()
				return err
			}
			if opened != nil {
				_ = opened.Close()
			}
			f, opened, turnedFor = next, next, 0
			continue
		case overFor > 0:
			if overFor++; overFor > followLinger {
				return errors.Join(l.copy(ctx, f, true), l.flush())
			}
		case time.Since(asked) >= followAsk:
			asked = time.Now()
			if l.over(ctx) {
				overFor = 1
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
