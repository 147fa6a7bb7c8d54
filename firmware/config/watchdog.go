package config

import (
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Watchdog says what resets the gateway when the agent is wedged (docs/health.md).
type Watchdog struct {
	Mode    string        `yaml:"mode"`    // WatchdogAuto, WatchdogDevice, WatchdogSystemd, WatchdogOff
	Device  string        `yaml:"device"`  // empty: the board's
	Timeout time.Duration `yaml:"timeout"` // of the device; 0: the board's
	Stop    string        `yaml:"stop"`    // StopAuto, StopDisarm, StopKeep: what becomes of the device when the agent is stopped
}

// Who resets the gateway.
const (
	WatchdogAuto    = "auto"
	WatchdogDevice  = "device"
	WatchdogSystemd = "systemd"
	WatchdogOff     = "off"
)

// What becomes of a watchdog when the agent is stopped in order.
const (
	StopAuto   = "auto" // it stays armed while the machine goes down
	StopDisarm = "disarm"
	StopKeep   = "keep"
)

func (w Watchdog) check(bad func(key string, value any, allowed string)) {
	if modes := []string{WatchdogAuto, WatchdogDevice, WatchdogSystemd, WatchdogOff}; !slices.Contains(modes, w.Mode) {
		bad("watchdog.mode", w.Mode, "allowed are "+strings.Join(modes, ", "))
	}
	if w.Device != "" && !filepath.IsAbs(w.Device) {
		bad("watchdog.device", w.Device, "an absolute path is needed, as /dev/watchdog0; empty: the board's")
	}
	if t := w.Timeout; t != 0 && (t < 4*time.Second || t > time.Hour) {
		bad("watchdog.timeout", t, "allowed are 0 (the board's) and 4s to 1h")
	}
	if stops := []string{StopAuto, StopDisarm, StopKeep}; !slices.Contains(stops, w.Stop) {
		bad("watchdog.stop", w.Stop, "allowed are "+strings.Join(stops, ", "))
	}
}
