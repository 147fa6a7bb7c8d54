package config

import (
	"path/filepath"
	"time"

	"github.com/skerry/skerry/firmware/update"
)

// Update is about new systems for this gateway, where its image has two slots.
type Update struct {
	Enabled       bool          `yaml:"enabled"`
	Window        string        `yaml:"window"` // in which the machine may be restarted, HH:MM-HH:MM; empty: always
	HealthTimeout time.Duration `yaml:"healthTimeout"`
	Stable        time.Duration `yaml:"stable"`
	WithoutCloud  time.Duration `yaml:"withoutCloud"`
	DrainTimeout  time.Duration `yaml:"drainTimeout"`
	RateLimit     Bytes         `yaml:"rateLimit"` // bytes per second
	CAFile        string        `yaml:"caFile"`    // of the server with the bundles; empty: the system's
}

func (u Update) check(bad func(key string, value any, allowed string), between func(key string, d, least, most time.Duration)) {
	if _, err := update.ParseWindow(u.Window); err != nil {
		bad("update.window", u.Window, err.Error()+"; empty: always")
	}
	between("update.healthTimeout", u.HealthTimeout, time.Minute, 24*time.Hour)
	between("update.stable", u.Stable, time.Second, time.Hour)
	between("update.withoutCloud", u.WithoutCloud, 0, 24*time.Hour)
	between("update.drainTimeout", u.DrainTimeout, 0, 7*24*time.Hour)
	if u.HealthTimeout <= u.Stable {
		bad("update.healthTimeout", u.HealthTimeout, "it must be longer than update.stable")
	}
	if u.WithoutCloud >= u.HealthTimeout && u.HealthTimeout > 0 {
		bad("update.withoutCloud", u.WithoutCloud, "it must be shorter than update.healthTimeout, or every update fails while the cloud cannot be reached")
	}
	if r := u.RateLimit; r != 0 && r < 1<<10 {
		bad("update.rateLimit", r, "allowed are 0 (no limit) and 1Ki bytes per second or more")
	}
	if u.CAFile != "" && !filepath.IsAbs(u.CAFile) {
		bad("update.caFile", u.CAFile, "an absolute path is needed; empty: the certificate authorities of the system")
	}
}

func defaultUpdate() Update {
	p := update.DefaultPolicy()
	return Update{Enabled: true, HealthTimeout: p.HealthTimeout, Stable: p.Stable, WithoutCloud: p.WithoutCloud, DrainTimeout: p.DrainTimeout}
}
