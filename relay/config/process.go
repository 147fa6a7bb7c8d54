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

// check does not know how long Kubernetes gives the pod to end in, 30 s unless terminationGracePeriodSeconds says otherwise. It has to
// be 13 s more than the period: agents have 3 s to close their connections, requests for certificates 3 s, reports 5 s to be written.
func (d Drain) check(bad func(key, format string, args ...any)) {
	if d.Period < 0 || d.Period > 10*time.Minute {
		bad("drain.period", "%v is not between 0s and 10m", d.Period)
	}
}

func (m Memory) check(bad func(key, format string, args ...any)) {
	if m.GCPercent < 10 || m.GCPercent > 1000 {
		bad("memory.gcPercent", "%d is not between 10 and 1000", m.GCPercent)
	}
}
