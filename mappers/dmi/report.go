package dmi

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// States of a device as mappers report them.
const (
	stateOnline    = "online"
	stateOffline   = "offline"
	stateUnhealthy = "unhealthy"
	stateUnknown   = "unknown"
)

// states maps what mappers say to what it means.
var states = map[string]string{
	"ok": stateOnline, "online": stateOnline, "offline": stateOffline, "disconnected": stateOffline, "unhealthy": stateUnhealthy, "unknown": stateUnknown,
}

// maxText bounds one reported value.
const maxText = 256 << 10

// Report takes over what a mapper has read, in the order of the calls and of twins. It never blocks. What the device has no property for is refused by
// name, and the others are taken.
func (r *Registry) Report(from Caller, namespace, name string, twins []Twin) error {
	d, err := r.home(namespace, name)
	if err != nil {
		return err
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.reporting(from, keyOf(namespace, name), now)
	if err != nil {
		return err
	}
	var wrong []string
	for _, t := range twins {
		switch {
		case !slices.ContainsFunc(e.manifest.Properties, func(p Property) bool { return p.Name == t.Property }):
			wrong = append(wrong, fmt.Sprintf("the Device has no property %q", clip(t.Property)))
			continue
		case len(t.Value) > maxText:
			wrong = append(wrong, fmt.Sprintf("the value of property %q has %d bytes, at most %d are accepted", clip(t.Property), len(t.Value), maxText))
			continue
		case !t.Reported:
			continue // it only says what was wanted
		}
		e.readings[t.Property] = reading{text: t.Value, source: t.Source, server: now}
		if e.session != nil {
			e.session.report(e, t.Property, now)
		}
	}
	e.tell()
	if len(wrong) > 0 {
		return fmt.Errorf("%w: device %s/%s: %s", ErrInvalid, namespace, name, strings.Join(wrong[:min(len(wrong), 10)], "; "))
	}
	return nil
}

// State takes over a device's state.
func (r *Registry) State(from Caller, namespace, name, state string) error {
	meant, ok := states[strings.ToLower(state)]
	if !ok {
		return fmt.Errorf("%w: state: %q: allowed are online, ok, offline, disconnected, unhealthy, unknown", ErrInvalid, clip(state))
	}
	d, err := r.home(namespace, name)
	if err != nil {
		return err
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.reporting(from, keyOf(namespace, name), now)
	if err != nil || e.state == meant {
		return err
	}
	e.state = meant
	e.tell()
	if e.session == nil {
		return nil
	}
	switch meant {
	case stateOnline:
		for _, p := range e.manifest.Properties {
			if _, there := e.readings[p.Name]; there {
				e.session.report(e, p.Name, now)
			}
		}
	default:
		e.session.gap(device.Bad, "the mapper reports the device as "+meant, now)
	}
	return nil
}

// reporting returns the device that a report is about, if the caller may report on it now. The lock is held.
func (d *Driver) reporting(from Caller, key string, now time.Time) (*entry, error) {
	l := d.link
	switch {
	case l == nil:
		return nil, fmt.Errorf("%w: no mapper for protocol %q has registered: call MapperRegister first", ErrStopped, d.name)
	case l.reg.Caller != from:
		return nil, fmt.Errorf("%w: device %s belongs to mapper %q, which runs as user %d; this process runs as user %d", ErrDenied, key, l.reg.Name, l.reg.Caller.UID, from.UID)
	}
	e := d.entries[key]
	if e == nil || !e.kept {
		return nil, fmt.Errorf("%w: %s", ErrNoDevice, key)
	}
	if !l.bucket.take(float64(d.registry.opt.MaxReports), now) {
		l.refused++
		return nil, fmt.Errorf("%w: mapper %q sends more than %d reports a second (dmi.maxReports): send several properties in one report, or again in a moment", ErrTooMany, l.reg.Name, d.registry.opt.MaxReports)
	}
	l.reports++
	return e, nil
}

// bucket admits so many a second, and two seconds' worth at once.
type bucket struct {
	level float64
	at    time.Time
}

func (b *bucket) take(rate float64, now time.Time) bool {
	if b.at.IsZero() {
		b.level = 2 * rate
	} else if d := now.Sub(b.at); d > 0 {
		b.level = min(2*rate, b.level+rate*d.Seconds())
	}
	b.at = now
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}
