package config

import (
	"path/filepath"
	"time"
)

// check judges the limits of what is pushed.
func (p Push) check(bad func(key string, value any, allowed string)) {
	if p.MaxTargets < 0 || p.MaxTargets > 24 {
		bad("devices.push.maxTargets", p.MaxTargets, "allowed are 0 (nothing is pushed) to 24")
	}
	if p.BatchValues < 1 || p.BatchValues > 5000 {
		bad("devices.push.batchValues", p.BatchValues, "allowed are 1 to 5000")
	}
	if p.BatchInterval < 10*time.Millisecond || p.BatchInterval > time.Hour {
		bad("devices.push.batchInterval", p.BatchInterval, "allowed are 10ms to 1h")
	}
	if p.QueueValues < 1 || p.QueueValues > 100_000 {
		bad("devices.push.queueValues", p.QueueValues, "allowed are 1 to 100000")
	}
	if p.Credentials != "" && !filepath.IsAbs(p.Credentials) {
		bad("devices.push.credentials", p.Credentials, "allowed is an absolute path, or none")
	}
}
