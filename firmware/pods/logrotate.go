package pods

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// How often a running container's log is measured. A log that fills half of a file between two looks is looked at every second.
const (
	logLook     = 10 * time.Second
	logLookSoon = time.Second
)

// LogReopener makes the runtime write a container's log to its path again, after the file was renamed. *cri.Client implements it.
type LogReopener interface {
	ReopenContainerLog(ctx context.Context, id string) error
}

// containerLog is the log of a running container.
type containerLog struct{ id, path string }

// logRotator keeps the logs of running containers within LogFiles files of about LogSize bytes: flash is small, and nobody
// looks after it. N.log is the file that is written to; N.log.1 the one before it, N.log.2 the one before that. They
// are numbered and not dated, because a gateway's clock may be anywhere. It belongs to one goroutine.
type logRotator struct {
	rt    LogReopener
	size  int64
	files int
	log   *slog.Logger
	sizes map[string]int64 // at the last look, by path
	said  map[string]bool  // failures that are in the log already, by path
}

// pass looks at each log once and returns when to look again.
func (r *logRotator) pass(ctx context.Context, logs []containerLog) time.Duration {
	next := logLook
	sizes, said := make(map[string]int64, len(logs)), map[string]bool{}
	for _, l := range logs {
		size, err := r.look(ctx, l)
		switch {
		case err == nil:
		case ctx.Err() != nil || runtimeGone(err):
			return logLook
		default:
			said[l.path] = true
			if !r.said[l.path] {
				r.log.Warn("a container's log cannot be rotated and goes on growing; this will be tried again", "path", l.path, "size", size, "error", err)
			}
		}
		if size-r.sizes[l.path] > r.size/2 {
			next = logLookSoon
		}
		sizes[l.path] = size
	}
	r.sizes, r.said = sizes, said
	return next
}

// look measures one log, rotates it if it is full, and returns its size.
func (r *logRotator) look(ctx context.Context, l containerLog) (int64, error) {
	info, err := os.Lstat(l.path)
	if errors.Is(err, os.ErrNotExist) {
		// The agent was killed between rename and reopen: the runtime still writes to the renamed file.
		return 0, ignoreMissing(r.rt.ReopenContainerLog(ctx, l.id))
	}
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() || info.Size() < r.size {
		return info.Size(), nil
	}
	for i := r.files - 1; i >= 1; i-- { // the oldest is overwritten
		from := rotatedLog(l.path, i-1)
		if err := os.Rename(from, rotatedLog(l.path, i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return info.Size(), fmt.Errorf("rotate %s: %w", from, err)
		}
	}
	if r.files == 1 {
		if err := os.Remove(l.path); err != nil {
			return info.Size(), err
		}
	}
	if err := ignoreMissing(r.rt.ReopenContainerLog(ctx, l.id)); err != nil {
		return 0, err // the next look finds no file, and asks again
	}
	return 0, nil
}

// rotatedLog is the path of the i-th file before the one that is written to.
func rotatedLog(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// removeLogFiles removes a container's log and those that it was rotated to.
func removeLogFiles(path string) error {
	errs := []error{os.Remove(path)}
	rotated, err := filepath.Glob(escapeGlob(path) + ".[0-9]*")
	errs = append(errs, err)
	for _, p := range rotated {
		errs = append(errs, os.Remove(p))
	}
	for i, err := range errs {
		if errors.Is(err, os.ErrNotExist) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// escapeGlob makes a path match itself only.
func escapeGlob(path string) string {
	var out []byte
	for _, c := range []byte(path) {
		if c == '*' || c == '?' || c == '[' || c == '\\' {
			out = append(out, '\\')
		}
		out = append(out, c)
	}
	return string(out)
}

// runningLogs returns where the running ones of a list of containers write their logs.
func runningLogs(root string, containers []cri.Container) []containerLog {
	var out []containerLog
	for i := range containers {
		c := &containers[i]
		meta := corev1.ObjectMeta{Namespace: c.Labels[labelPodNamespace], Name: c.Labels[labelPodName], UID: c.Labels[labelPodUID]}
		name := c.Labels[labelContainer]
		if c.State != cri.ContainerRunning || c.Metadata == nil || !safeName(meta.UID) || name == "" || filepath.Base(name) != name {
			continue
		}
		out = append(out, containerLog{id: c.ID, path: filepath.Join(podLogDir(root, &meta), containerLogPath(name, int32(min(c.Metadata.Attempt, 1<<30))))}) //nolint:gosec // bounded
	}
	return out
}

// rotateLogs looks after logs until ctx ends.
func (m *Manager) rotateLogs(ctx context.Context) {
	r := &logRotator{rt: m.o.Runtime, size: m.o.LogSize, files: m.o.LogFiles, log: m.o.Log, sizes: map[string]int64{}}
	for next := logLook; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
		m.mu.Lock()
		logs := m.logs
		m.mu.Unlock()
		ask, cancel := context.WithTimeout(ctx, askLimit)
		next = r.pass(ask, logs)
		cancel()
	}
}
