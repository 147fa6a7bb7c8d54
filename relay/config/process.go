package config

import "time"

// Drain says how the relay ends.
type Drain struct {
	Period time.Duration `yaml:"period"` // over which its agents are told to go elsewhere
}

// Memory says how the process uses memory.
type Memory struct {
	GCPercent int `yaml:"gcPercent"` // garbage that may gather before it is collected, in percent of what is in use
}

// MaxDrain is the longest period that is taken.
const MaxDrain = 10 * time.Minute

// AfterDrain is what a relay may need after the period, rounded up: agents have 3 s to close their connections, requests for certificates
// 3 s, reports 5 s to be written, and what is left 1.5 s.
const AfterDrain = 13 * time.Second

// check cannot hold the period to the time that Kubernetes gives the pod, terminationGracePeriodSeconds, which a process does not see: that
// must be AfterDrain more than the period. The chart gives 20 s more; with the 30 s of a pod that says nothing the period may be 17 s.
func (d Drain) check(bad func(key, format string, args ...any)) {
	if d.Period < 0 || d.Period > MaxDrain {
		bad("drain.period", "%v is not between 0s and 10m", d.Period)
	}
}

func (m Memory) check(bad func(key, format string, args ...any)) {
	if m.GCPercent < 10 || m.GCPercent > 1000 {
		bad("memory.gcPercent", "%d is not between 10 and 1000", m.GCPercent)
	}
}
