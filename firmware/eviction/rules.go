package eviction

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Signal names what is measured, as in the kubelet's configuration.
type Signal string

// The signals. nodefs holds volumes and logs of pods, imagefs the images and the containers' writable layers.
const (
	Memory       Signal = "memory.available"
	NodeDisk     Signal = "nodefs.available"
	NodeInodes   Signal = "nodefs.inodesFree"
	ImageDisk    Signal = "imagefs.available"
	ImageInodes  Signal = "imagefs.inodesFree"
	PIDs         Signal = "pid.available"
	memoryName          = "memory"
	storageName         = "ephemeral-storage"
	inodesName          = "inodes"
	pidsName            = "pids"
	knownSignals        = "memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree and pid.available"
)

// Types of node conditions.
const (
	MemoryPressure = "MemoryPressure"
	DiskPressure   = "DiskPressure"
	PIDPressure    = "PIDPressure"
)

// Conditions lists the types of node conditions that signals raise.
func Conditions() []string { return []string{MemoryPressure, DiskPressure, PIDPressure} }

// Condition returns the node condition that the signal raises, "" for a signal that does not exist.
func (s Signal) Condition() string {
	switch s {
	case Memory:
		return MemoryPressure
	case NodeDisk, NodeInodes, ImageDisk, ImageInodes:
		return DiskPressure
	case PIDs:
		return PIDPressure
	}
	return ""
}

// Resource returns what pods have to give back, as messages name it.
func (s Signal) Resource() string {
	switch s {
	case Memory:
		return memoryName
	case NodeDisk, ImageDisk:
		return storageName
	case NodeInodes, ImageInodes:
		return inodesName
	case PIDs:
		return pidsName
	}
	return ""
}

// Disk reports whether the signal is about a disk.
func (s Signal) Disk() bool { return s.Condition() == DiskPressure }

// Amount is a number of bytes, inodes or processes, or a part of the capacity.
type Amount struct {
	Number  int64
	Percent float64 // of the capacity; 0: Number counts
}

// Of returns the amount for a capacity.
func (a Amount) Of(capacity int64) int64 {
	if a.Percent > 0 {
		return int64(float64(capacity) * a.Percent / 100)
	}
	return a.Number
}

// String writes the amount as it is configured.
func (a Amount) String() string {
	if a.Percent > 0 {
		return strconv.FormatFloat(a.Percent, 'g', -1, 64) + "%"
	}
	return binary(a.Number)
}

// ParseAmount reads 10%, 100Mi or 5000.
func ParseAmount(text string) (Amount, error) {
	if p, ok := strings.CutSuffix(text, "%"); ok {
		v, err := strconv.ParseFloat(p, 64)
		if err != nil || !(v >= 0 && v <= 100) {
			return Amount{}, fmt.Errorf("%q: allowed are 0%% to 100%%", text)
		}
		return Amount{Percent: v}, nil
	}
	v, err := corev1.Quantity(text).Value()
	if err != nil || v < 0 {
		return Amount{}, fmt.Errorf("%q is neither a percentage like 10%% nor an amount like 100Mi", text)
	}
	return Amount{Number: v}, nil
}

// Threshold is one rule: when less than Least is there for as long as Grace, pods go until Least and Reclaim are there.
type Threshold struct {
	Signal  Signal
	Least   Amount
	Grace   time.Duration // 0: a hard threshold, pods get no time to end
	Reclaim Amount
}

// Rules are thresholds as they are configured: by signal, 10% or 100Mi. 0 and 0% switch a hard threshold off.
type Rules struct {
	Hard    map[string]string
	Soft    map[string]string
	Grace   map[string]time.Duration // of each soft threshold
	Reclaim map[string]string        // how much more than the threshold has to be there in the end
}

// DefaultHard are the hard thresholds unless they are configured. They suit gateways from 128 MB on: 5 % of 128 MB is what the
// kernel needs to go on, and of 1 GB what a burst of allocations takes between two looks.
func DefaultHard() map[string]string {
	return map[string]string{
		string(Memory): "5%", string(NodeDisk): "10%", string(NodeInodes): "5%", string(ImageDisk): "10%", string(ImageInodes): "5%", string(PIDs): "10%",
	}
}

// Parse checks the rules and returns the thresholds, memory first. The error names all that is wrong.
func (r Rules) Parse() ([]Threshold, error) {
	var out []Threshold
	var wrong []error
	bad := func(list, signal string, err error) {
		wrong = append(wrong, fmt.Errorf("%s.%s: %w", list, signal, err))
	}
	amount := func(list string, all map[string]string, signal string) (a Amount, found bool) {
		text, found := all[signal]
		if !found {
			return Amount{}, false
		}
		a, err := ParseAmount(text)
		if err != nil {
			bad(list, signal, err)
			return Amount{}, false
		}
		return a, true
	}
	for list, m := range map[string]map[string]string{"hard": r.Hard, "soft": r.Soft, "minimumReclaim": r.Reclaim} {
		for signal := range m {
			if Signal(signal).Condition() == "" {
				bad(list, signal, errors.New("there is no such signal: allowed are "+knownSignals))
			}
		}
	}
	for signal := range r.Grace {
		if _, ok := r.Soft[signal]; !ok {
			bad("softGracePeriod", signal, errors.New("there is no soft threshold of that signal"))
		}
	}
	for _, signal := range slices.Sorted(maps.Keys(merged(r.Hard, r.Soft))) {
		reclaim, _ := amount("minimumReclaim", r.Reclaim, signal)
		if least, ok := amount("hard", r.Hard, signal); ok && least != (Amount{}) {
			out = append(out, Threshold{Signal: Signal(signal), Least: least, Reclaim: reclaim})
		}
		if least, ok := amount("soft", r.Soft, signal); ok {
			grace := r.Grace[signal]
			if grace <= 0 {
				bad("soft", signal, errors.New("a soft threshold needs a softGracePeriod of that signal, as 90s"))
				continue
			}
			out = append(out, Threshold{Signal: Signal(signal), Least: least, Grace: grace, Reclaim: reclaim})
		}
	}
	slices.SortStableFunc(out, func(a, b Threshold) int { return order(a.Signal) - order(b.Signal) })
	return out, errors.Join(wrong...)
}

// order puts memory first: there is the least time.
func order(s Signal) int {
	if s == Memory {
		return 0
	}
	return 1
}

func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, b)
	return out
}

// binary writes n with the largest binary suffix that loses nothing, as Kubernetes writes quantities.
func binary(n int64) string {
	for _, u := range []struct {
		suffix string
		size   int64
	}{{"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}} {
		if n != 0 && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}
