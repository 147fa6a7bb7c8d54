package kubeletapi

import (
	"bytes"
	"io"
	"time"
)

// maxLogHead is more than the longest head of a line: time stamp, stream, tag.
const maxLogHead = 64

// logHead is what a line of a log in the CRI format begins with: time stamp, stream, and "F" for the last part of a line of the
// container's, "P" for others (design doc kubelet-cri-logging of Kubernetes).
type logHead struct {
	stamp   []byte
	stdout  bool
	partial bool
}

// parseLogHead splits a line into head and text. ok is false if it is not in the format: whoever wrote it was cut off.
func parseLogHead(line []byte) (h logHead, text []byte, ok bool) {
	stamp, rest, ok1 := bytes.Cut(line, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tags, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 || len(stamp) == 0 || len(stamp) > 40 {
		return h, line, false
	}
	switch string(stream) {
	case "stdout":
		h.stdout = true
	case "stderr":
	default:
		return h, line, false
	}
	tag, _, _ := bytes.Cut(tags, []byte(":")) // more tags may follow
	switch string(tag) {
	case "P":
		h.partial = true
	case "F":
	default:
		return h, line, false
	}
	h.stamp = stamp
	return h, text, true
}

// logWriter turns lines of log files into what the reader asked for. Not safe for concurrent use.
type logWriter struct {
	to   io.Writer
	o    logOptions
	left int64 // bytes that may still be written; negative: no limit

	within  bool // the last part written did not end its line
	skip    bool // of the physical line that is being taken in pieces, nothing is wanted
	newline bool // its end is the end of a line of the container's
}

// errLimit ends the reading: limitBytes have been written.
type errLimit struct{}

func (errLimit) Error() string { return "limitBytes are reached" }

// begin takes a physical line's beginning, or all of it without its newline; more says that pieces follow.
func (w *logWriter) begin(line []byte, more bool) error {
	h, text, ok := parseLogHead(line)
	w.skip, w.newline = false, true
	if ok {
		if h.stdout && !w.o.stdout || !h.stdout && !w.o.stderr {
			w.skip = true
			return nil
		}
		if !w.o.since.IsZero() {
			if at, err := time.Parse(time.RFC3339Nano, string(h.stamp)); err == nil && at.Before(w.o.since) {
				w.skip = true
				return nil
			}
		}
		w.newline = !h.partial
		if w.o.timestamps && !w.within {
			if err := w.write(h.stamp); err != nil {
				return err
			}
			if err := w.write([]byte(" ")); err != nil {
				return err
			}
		}
	}
	return w.piece(text, more)
}

// piece takes a further part of the physical line.
func (w *logWriter) piece(text []byte, more bool) error {
	if w.skip {
		return nil
	}
	if err := w.write(text); err != nil {
		return err
	}
	w.within = true
	if more || !w.newline {
		return nil
	}
	w.within = false
	return w.write([]byte("\n"))
}

// farewell writes a last line of the agent's own, so that whoever follows knows that it is not the container that is silent.
func (w *logWriter) farewell(text string) error {
	text = "[skerryd] " + text + "\n"
	if w.within {
		text = "\n" + text
	}
	_, err := io.WriteString(w.to, text)
	return err
}

func (w *logWriter) write(b []byte) error {
	if w.left >= 0 {
		if int64(len(b)) >= w.left {
			b = b[:w.left]
			w.left = 0
			if _, err := w.to.Write(b); err != nil {
				return err
			}
			return errLimit{}
		}
		w.left -= int64(len(b))
	}
	_, err := w.to.Write(b)
	return err
}
