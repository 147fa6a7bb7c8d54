package kubeletapi

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// metricPage is a page in Prometheus' text format, version 0.0.4. All series of a family follow its head.
type metricPage struct{ b *bytes.Buffer }

func newPage() metricPage { return metricPage{new(bytes.Buffer)} }

func (m metricPage) send(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(m.b.Bytes())
}

func (m metricPage) family(name, kind, help string) {
	for _, s := range []string{"# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"} {
		m.b.WriteString(s)
	}
}

func (m metricPage) value(name, labels string, v float64, at time.Time) {
	m.b.WriteString(name)
	m.b.WriteString(labels)
	m.b.WriteByte(' ')
	m.b.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	if !at.IsZero() {
		m.b.WriteByte(' ')
		m.b.WriteString(strconv.FormatInt(at.UnixMilli(), 10))
	}
	m.b.WriteByte('\n')
}

// single is a family of one series.
func (m metricPage) single(name, kind, help string, v float64) {
	m.family(name, kind, help)
	m.value(name, "", v, time.Time{})
}

// labels makes {a="x",b="y"} of a, x, b, y.
func labels(pairs ...string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(pairs[i])
		b.WriteString(`="`)
		escape(&b, pairs[i+1])
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

// with adds a label to those that labels made.
func with(set, name, value string) string {
	return strings.TrimSuffix(set, "}") + "," + strings.TrimPrefix(labels(name, value), "{")
}

// escape writes a label's value: backslashes, quotes and line feeds are escaped, and what is not UTF-8 is replaced.
func escape(b *strings.Builder, value string) {
	for _, r := range value {
		switch r {
		case '\\':
			b.WriteString(`\\`)
		case '"':
			b.WriteString(`\"`)
		case '\n':
			b.WriteString(`\n`)
		default:
			b.WriteRune(r)
		}
	}
}

// seconds makes seconds of nanoseconds.
func seconds(ns uint64) float64 { return float64(ns) / 1e9 }

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
