package fleet

import (
	"bufio"
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Counters are the samples of a page in Prometheus' text format: value by name with labels, as they are written there.
type Counters map[string]float64

// ParseCounters reads a page; lines that are not samples are skipped.
func ParseCounters(page []byte) Counters {
	out := Counters{}
	lines := bufio.NewScanner(bytes.NewReader(page))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			out[strings.TrimSpace(line[:i])] = v
		}
	}
	return out
}

// Sum adds the samples called name whose labels contain all of with, each written label="value".
func (c Counters) Sum(name string, with ...string) (sum float64) {
	for k, v := range c {
		if matches(k, name, with) {
			sum += v
		}
	}
	return sum
}

func matches(sample, name string, with []string) bool {
	rest, ok := strings.CutPrefix(sample, name)
	if !ok || rest != "" && rest[0] != '{' {
		return false
	}
	for _, w := range with {
		if !strings.Contains(rest, "{"+w) && !strings.Contains(rest, ","+w) {
			return false
		}
	}
	return true
}

// Sub returns what was added since before.
func (c Counters) Sub(before Counters) Counters {
	out := make(Counters, len(c))
	for k, v := range c {
		if d := v - before[k]; d != 0 {
			out[k] = d
		}
	}
	return out
}

// Label returns the value of a sample's label, "" if it has none.
func Label(sample, label string) string {
	for _, start := range []string{"{", ","} {
		if _, rest, ok := strings.Cut(sample, start+label+`="`); ok {
			value, _, _ := strings.Cut(rest, `"`)
			return value
		}
	}
	return ""
}

// Requests is how often a verb was asked of a resource.
type Requests struct {
	Verb, Resource string
	Count          float64
}

// RelayRequests groups the relay's own count of its API requests, the most frequent first.
func (c Counters) RelayRequests() []Requests {
	return c.group("skerry_relay_api_requests_total", func(s string) (string, string) { return Label(s, "verb"), Label(s, "resource") })
}

// ServerRequests groups the API server's count of all requests, watches excepted (they are counted when they end).
func (c Counters) ServerRequests() []Requests {
	return c.group("apiserver_request_total", func(s string) (string, string) {
		resource := Label(s, "resource")
		if sub := Label(s, "subresource"); sub != "" {
			resource += "/" + sub
		}
		return strings.ToLower(Label(s, "verb")), resource
	})
}

func (c Counters) group(name string, by func(string) (verb, resource string)) []Requests {
	sums := map[Requests]float64{}
	for k, v := range c {
		if matches(k, name, nil) {
			verb, resource := by(k)
			sums[Requests{Verb: verb, Resource: resource}] += v
		}
	}
	out := make([]Requests, 0, len(sums))
	for r, n := range sums {
		r.Count = n
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Requests) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Verb, b.Verb), cmp.Compare(a.Resource, b.Resource))
	})
	return out
}
