// Package bench is the form in which every benchmark of the repository reports: figures with a name and a unit, printed one
// a line and written as JSON with the machine's load and versions beside them.
//
// A Report is not safe for concurrent use. Names, once published, stay: people keep them in spreadsheets.
package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry"
)

// Figure is one measured number.
type Figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Report collects the figures of one benchmark run.
type Report struct {
	name    string
	out     io.Writer
	names   []string
	figures map[string]Figure
	machine map[string]any
	parts   map[string]any
}

// New starts the report of the benchmark called name; figures are printed to out as they come.
func New(name string, out io.Writer) *Report {
	return &Report{name: name, out: out, figures: map[string]Figure{}, machine: describe(), parts: map[string]any{}}
}

// Add records a figure and prints its line.
func (r *Report) Add(name string, value float64, unit string) {
	if _, ok := r.figures[name]; !ok {
		r.names = append(r.names, name)
	}
	r.figures[name] = Figure{value, unit}
	fmt.Fprintf(r.out, "%s %.4g %s\n", name, value, unit)
}

// Value returns a figure that was added, 0 if there is none of that name.
func (r *Report) Value(name string) float64 { return r.figures[name].Value }

// Attach puts v into the JSON document under name, beside the figures; v is encoded when the report is written.
func (r *Report) Attach(name string, v any) { r.parts[name] = v }

// Missing returns those of names that have no figure yet.
func (r *Report) Missing(names ...string) (missing []string) {
	for _, n := range names {
		if _, ok := r.figures[n]; !ok {
			missing = append(missing, n)
		}
	}
	return missing
}

// Write stores the report as dir/NAME.json. It may be called again and again, as figures come: the file is replaced as a whole.
func (r *Report) Write(dir string) error {
	r.machine["load_now"] = load()
	r.machine["written"] = time.Now().UTC().Format(time.RFC3339)
	doc := map[string]any{"machine": r.machine}
	for n, v := range r.parts {
		doc[n] = v
	}
	for _, n := range r.names {
		doc[n] = r.figures[n]
	}
	body, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the figures of %s: %w", r.name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder for figures: %w", err)
	}
	path := filepath.Join(dir, r.name+".json")
	if err := os.WriteFile(path+".new", append(body, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures of %s: %w", r.name, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the figures of %s: %w", r.name, err)
	}
	return nil
}

// Median returns the middle value, 0 for none.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Quantile returns the smallest value that at least the share q of all values does not exceed (nearest rank), 0 for none.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func describe() map[string]any {
	m := map[string]any{
		"go": runtime.Version(), "arch": runtime.GOARCH, "cpus": runtime.NumCPU(),
		"time": time.Now().UTC().Format(time.RFC3339), "skerry": skerry.Version,
	}
	m["load_at_start"] = load()
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m["kernel"] = strings.TrimSpace(string(b))
	}
	if b, err := exec.Command("containerd", "--version").Output(); err == nil {
		m["containerd"] = strings.TrimSpace(string(b))
	}
	return m
}

// load returns the machine's load averages as the kernel writes them, "" where it does not.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Load returns the machine's load averages over 1, 5 and 15 minutes, "" if they are not known.
func Load() string {
	fields := strings.Fields(load())
	return strings.Join(fields[:min(3, len(fields))], " ")
}
