package pods

import (
	"bytes"
	"io"
	"strings"

	"github.com/skerry/skerry/firmware/regular"
)

// maxTailLines is how many lines of a log become a termination message at most, as in Kubernetes.
const maxTailLines = 80

// tailLog returns the end of a log in the CRI format (time, stream, P or F, text), at most limit bytes of text.
func tailLog(path string, limit int) string {
	f, info, err := regular.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()                 //nolint:errcheck // read only
	window := int64(limit)*4 + 4096 // a line's head is longer than a short text
	if info.Size() > window {
		if _, err := f.Seek(-window, io.SeekEnd); err != nil {
			return ""
		}
	}
	raw, err := io.ReadAll(io.LimitReader(f, window))
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n"))
	if len(lines) > maxTailLines {
		lines = lines[len(lines)-maxTailLines:]
	}
	var b strings.Builder
	for _, line := range lines {
		if parts := bytes.SplitN(line, []byte(" "), 4); len(parts) == 4 && (string(parts[1]) == "stdout" || string(parts[1]) == "stderr") {
			b.Write(parts[3])
			if string(parts[2]) != "P" {
				b.WriteByte('\n')
			}
		}
	}
	text := b.String()
	if len(text) > limit {
		text = text[len(text)-limit:]
	}
	return text
}
