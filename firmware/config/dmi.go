package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// DMI serves mappers of other people in other processes (docs/dmi.md).
type DMI struct {
	Enabled bool   `yaml:"enabled"`
	Socket  string `yaml:"socket"` // empty: dmi.sock in the folder of the status socket
	// UIDs and GIDs may use the socket, beside root and the agent's user.
	UIDs []uint32 `yaml:"uids"`
	GIDs []uint32 `yaml:"gids"`
	// Limits of each mapper.
	MaxDevices  int           `yaml:"maxDevices"`
	MaxReports  int           `yaml:"maxReports"` // a second
	MaxMessage  Bytes         `yaml:"maxMessage"`
	CallTimeout time.Duration `yaml:"callTimeout"` // after which a mapper that does not answer is in trouble
}

// DefaultDMISocket is where mappers find the agent if nobody says otherwise.
const DefaultDMISocket = "/run/skerry/dmi.sock"

func defaultDMI() DMI {
	return DMI{UIDs: []uint32{}, GIDs: []uint32{}, MaxDevices: 1000, MaxReports: 2000, MaxMessage: 4 << 20, CallTimeout: 5 * time.Second}
}

func (c Config) checkDMI(bad func(key string, value any, allowed string), between func(key string, d, least, most time.Duration)) {
	d := c.DMI
	switch {
	case !filepath.IsAbs(d.Socket):
		bad("dmi.socket", d.Socket, "an absolute path is needed, as "+DefaultDMISocket+", or /etc/kubeedge/dmi.sock for mappers that cannot be told another")
	case len(d.Socket) > maxSocketPath:
		bad("dmi.socket", d.Socket, fmt.Sprintf("the kernel takes paths of Unix sockets up to %d bytes", maxSocketPath))
	case slices.Contains([]string{c.Socket, c.Control.Socket}, d.Socket):
		bad("dmi.socket", d.Socket, "it must be another one than socket and control.socket")
	}
	if d.Enabled && !c.Devices.Enabled {
		bad("dmi.enabled", d.Enabled, "it needs devices.enabled: true")
	}
	if n := d.MaxDevices; n < 1 || n > 10000 {
		bad("dmi.maxDevices", n, "allowed are 1 to 10000 devices of each mapper")
	}
	if n := d.MaxReports; n < 1 || n > 100000 {
		bad("dmi.maxReports", n, "allowed are 1 to 100000 reports a second of each mapper")
	}
	if s := d.MaxMessage; s < 64<<10 || s > 64<<20 {
		bad("dmi.maxMessage", s, "allowed are 64Ki to 64Mi")
	}
	between("dmi.callTimeout", d.CallTimeout, 100*time.Millisecond, time.Minute)
}
