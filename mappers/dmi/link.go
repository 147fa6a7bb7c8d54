package dmi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

const (
	backoffBase  = time.Second
	backoffLimit = 30 * time.Second
	// startGrace is how long after its registration a mapper may be without a server: KubeEdge's framework registers first and listens then.
	startGrace = 10 * time.Second
	// refusedFor is after how long a mapper is asked again to take what it has refused.
	refusedFor = 30 * time.Second
)

// link is one mapper that has registered. The driver's lock guards it but for what never changes.
type link struct {
	driver *Driver
	reg    Registration
	poked  chan struct{} // there may be something to do
	cancel context.CancelFunc

	since   time.Time // of the registration
	devices map[string]*held
	models  map[string]*held
	unsaved bool
	trouble string // why its devices are unreachable; "": they are not
	backoff device.Backoff
	heard   time.Time // it answered last
	bucket  bucket
	reports uint64
	refused uint64
}

// held is what the mapper is known to hold of one device or model.
type held struct {
	sum     sum
	unsure  bool      // the agent was restarted: it may have another version, or none
	failed  sum       // the version that it has refused
	retryAt time.Time // when it is asked again to take that; zero: it has not refused any
	absent  bool      // it does not hold it, it has only refused it
}

func newLink(d *Driver, reg Registration) *link {
	now := time.Now()
	return &link{driver: d, reg: reg, poked: make(chan struct{}, 1), since: now, heard: now, devices: make(map[string]*held), models: make(map[string]*held)}
}

func (l *link) poke() {
	select {
	case l.poked <- struct{}{}:
	default:
	}
}

// register puts a mapper in the place of the one that was there, and returns what it shall hold.
func (d *Driver) register(reg Registration, withData bool, room func([]Model, []Device) bool) ([]Model, []Device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.link
	if old != nil && old.trouble == "" && (old.reg.Name != reg.Name || old.reg.Caller != reg.Caller) {
		old.heard = time.Time{} // is it still there?
		old.poke()
		return nil, nil, fmt.Errorf("%w: protocol %q is served by mapper %q of user %d on %s: stop that one first, or wait until the agent has noticed that it is gone",
			ErrTaken, d.name, old.reg.Name, old.reg.Caller.UID, old.reg.Address)
	}
	l := newLink(d, reg)
	if old != nil {
		if old.cancel != nil {
			old.cancel()
		}
		l.bucket, l.reports, l.refused = old.bucket, old.reports, old.refused
		for key := range old.devices {
			l.devices[key] = &held{unsure: true}
		}
		for key := range old.models {
			l.models[key] = &held{unsure: true}
		}
	}
	d.link = l
	now := time.Now()
	for _, e := range d.entries {
		e.delivered, e.refused, e.retryAt, e.beyond, e.state = 0, "", time.Time{}, false, ""
		for p, r := range e.readings {
			r.doubt = "the mapper has registered anew, and has not reported this property since"
			e.readings[p] = r
		}
		if e.session != nil {
			e.session.gap(device.Uncertain, "the mapper has registered anew", now)
		}
	}
	var models []Model
	var devices []Device
	if withData {
		clear(l.devices)
		clear(l.models)
		models, devices = l.give(room)
	}
	for _, e := range d.entries {
		e.tell()
	}
	d.registry.start(l)
	l.poke()
	return models, devices, nil
}

// give lists what the mapper shall hold as far as room allows, and notes that it holds it.
func (l *link) give(room func([]Model, []Device) bool) (models []Model, devices []Device) {
	d := l.driver
	for _, key := range slices.Sorted(maps.Keys(d.entries)) {
		e := d.entries[key]
		if !e.kept || !e.followed || len(devices) >= d.registry.opt.MaxDevices {
			continue
		}
		ref := keyOf(e.message.Namespace, e.message.Model)
		m := d.models[ref]
		if m == nil {
			continue
		}
		more := models
		if l.models[ref] == nil {
			more = append(models, m.model)
		}
		if with := append(devices, e.message); room == nil || room(more, with) {
			models, devices = more, with
			l.models[ref], l.devices[key] = &held{sum: m.sum}, &held{sum: e.sum}
			e.delivered = e.version
			continue
		}
		break
	}
	return models, devices
}

func (d *Driver) saved() (Saved, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.link
	if l == nil {
		return Saved{}, false
	}
	l.unsaved = false
	names := func(of map[string]*held) []string {
		return slices.DeleteFunc(slices.Sorted(maps.Keys(of)), func(key string) bool { return of[key].absent })
	}
	return Saved{Name: l.reg.Name, Version: l.reg.Version, Protocol: d.name, Address: l.reg.Address, UID: l.reg.Caller.UID, Devices: names(l.devices), Models: names(l.models)}, true
}

// run brings the mapper in line until ctx ends.
func (l *link) run(ctx context.Context) {
	for ctx.Err() == nil {
		j, wait := l.next(time.Now())
		if j != nil {
			call, cancel := context.WithTimeout(ctx, l.driver.registry.opt.CallTimeout)
			err := j.call(call)
			if err != nil && call.Err() != nil && !errors.Is(err, ErrNoAnswer) {
				err = fmt.Errorf("%w: %w", ErrNoAnswer, err)
			}
			cancel()
			if ctx.Err() != nil {
				return
			}
			l.settle(j, err, time.Now())
			continue
		}
		if l.mustSave() {
			l.driver.registry.save()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.poked:
		case <-timer.C:
		case <-l.reg.Lost:
			l.lost()
		}
		timer.Stop()
	}
}

func (l *link) mustSave() bool {
	l.driver.mu.Lock()
	defer l.driver.mu.Unlock()
	return l.unsaved
}

// lost has the mapper asked at once whether it is still there.
func (l *link) lost() {
	l.driver.mu.Lock()
	defer l.driver.mu.Unlock()
	l.heard = time.Time{}
}

// job is one call.
type job struct {
	what string // the method
	call func(ctx context.Context) error
	// done takes over the mapper's own answer. The lock is held.
	done func(err error, now time.Time)
}

// next returns the next call, or how long there is none. Models go before the devices that refer to them, and are removed after them.
func (l *link) next(now time.Time) (*job, time.Duration) {
	d := l.driver
	synced := d.registry.isSynced()
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := d.registry.opt.ProbeEvery
	if w := l.backoff.RetryAt().Sub(now); w > 0 {
		return nil, min(w, wait)
	}
	later := func(at time.Time) {
		if w := at.Sub(now); w > 0 {
			wait = min(wait, w)
		}
	}
	if j := l.nextModel(now, later); j != nil {
		return j, 0
	}
	if j := l.nextDevice(now, later); j != nil {
		return j, 0
	}
	if synced {
		if j := l.nextRemoval(); j != nil {
			return j, 0
		}
	}
	at := l.heard.Add(d.registry.opt.ProbeEvery)
	if !now.Before(at) {
		if j := l.probe(); j != nil {
			return j, 0
		}
		return nil, wait
	}
	later(at)
	return nil, wait
}

func (l *link) nextModel(now time.Time, later func(time.Time)) *job {
	for _, ref := range slices.Sorted(maps.Keys(l.driver.models)) {
		m, h := l.driver.models[ref], l.models[ref]
		if h != nil && !h.unsure && !h.absent && h.sum == m.sum || !l.used(ref) || h.waits(m.sum, now, later) {
			continue
		}
		model, s, known := m.model, m.sum, h != nil && !h.absent
		unsure := known && h.unsure
		return &job{
			what: method(known, "UpdateDeviceModel", "CreateDeviceModel"),
			call: func(ctx context.Context) error {
				err := l.reg.Mapper.PutModel(ctx, model, known)
				if unsure && err != nil && !errors.Is(err, ErrNoAnswer) { // it has forgotten it
					err = l.reg.Mapper.PutModel(ctx, model, false)
				}
				return err
			},
			done: func(err error, now time.Time) { l.put(l.models, ref, s, err, now) },
		}
	}
	return nil
}

// used tells whether a device that may be sent refers to a model.
func (l *link) used(ref string) bool {
	for _, e := range l.driver.entries {
		if e.kept && e.followed && keyOf(e.message.Namespace, e.message.Model) == ref {
			return true
		}
	}
	return false
}

func method(known bool, update, create string) string {
	if known {
		return update
	}
	return create
}

// waits tells whether a version was refused a short time ago.
func (h *held) waits(s sum, now time.Time, later func(time.Time)) bool {
	if h == nil || h.retryAt.IsZero() || h.failed != s || !now.Before(h.retryAt) {
		return false
	}
	later(h.retryAt)
	return true
}

// put notes what became of sending a version.
func (l *link) put(of map[string]*held, key string, s sum, err error, now time.Time) {
	h := of[key]
	if h == nil {
		h = &held{absent: true}
		of[key] = h
	}
	if err != nil {
		h.failed, h.retryAt = s, now.Add(refusedFor)
		return
	}
	l.unsaved = l.unsaved || h.absent
	*h = held{sum: s}
}

func (l *link) nextDevice(now time.Time, later func(time.Time)) *job {
	d, count := l.driver, 0
	for _, h := range l.devices {
		if !h.absent {
			count++
		}
	}
	var best *entry
	var bestKey string
	for key, e := range d.entries { // the one that was never sent waits for those that the mapper has
		h := l.devices[key]
		if !e.kept || !e.followed {
			continue
		}
		held := h != nil && !h.absent
		if held && !h.unsure && h.sum == e.sum {
			continue
		}
		if m := l.models[keyOf(e.message.Namespace, e.message.Model)]; m == nil || m.absent {
			e.refused, e.refusedFor = "it has refused its DeviceModel", e.version
			continue
		}
		if e.beyond = !held && count >= d.registry.opt.MaxDevices; e.beyond || h.waits(e.sum, now, later) {
			continue
		}
		if best == nil || cmp.Compare(key, bestKey) < 0 {
			best, bestKey = e, key
		}
	}
	if best == nil {
		return nil
	}
	return l.putDevice(bestKey, best)
}

func (l *link) putDevice(key string, e *entry) *job {
	h := l.devices[key]
	known := h != nil && !h.absent
	unsure := known && h.unsure
	msg, s, version := e.message, e.sum, e.version
	return &job{
		what: method(known, "UpdateDevice", "RegisterDevice"),
		call: func(ctx context.Context) error {
			if !unsure {
				return l.reg.Mapper.Put(ctx, msg, known)
			}
			same, err := l.reg.Mapper.Has(ctx, msg)
			switch {
			case errors.Is(err, ErrNoAnswer):
				return err
			case err == nil && same:
				return nil // it went on while the agent was away
			}
			return l.reg.Mapper.Put(ctx, msg, err == nil)
		},
		done: func(err error, now time.Time) {
			l.put(l.devices, key, s, err, now)
			e := l.driver.entries[key]
			if e == nil {
				return
			}
			switch {
			case err != nil:
				if e.refused != oneLine(err) {
					l.driver.registry.log.Warn("a mapper refuses a device; it is offered again", "mapper", l.reg.Name, "device", key, "error", err, "in", refusedFor)
				}
				e.refused, e.refusedFor = oneLine(err), version
			default:
				e.refused, e.delivered = "", max(e.delivered, version)
			}
			e.tell()
		},
	}
}

func (l *link) nextRemoval() *job {
	d := l.driver
	for _, key := range slices.Sorted(maps.Keys(l.devices)) {
		if e := d.entries[key]; e != nil && e.kept {
			continue
		}
		if l.devices[key].absent {
			delete(l.devices, key)
			continue
		}
		namespace, name, _ := strings.Cut(key, "/")
		return &job{
			what: "RemoveDevice",
			call: func(ctx context.Context) error { return l.reg.Mapper.Remove(ctx, namespace, name) },
			done: func(err error, _ time.Time) { l.removed(l.devices, key, err) },
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(l.models)) {
		if d.models[ref] != nil {
			continue
		}
		if l.models[ref].absent {
			delete(l.models, ref)
			continue
		}
		namespace, name, _ := strings.Cut(ref, "/")
		return &job{
			what: "RemoveDeviceModel",
			call: func(ctx context.Context) error { return l.reg.Mapper.RemoveModel(ctx, namespace, name) },
			done: func(err error, _ time.Time) { l.removed(l.models, ref, err) },
		}
	}
	return nil
}

// removed notes that the mapper does not hold something any more; one that refuses to remove it most likely never had it.
func (l *link) removed(of map[string]*held, key string, err error) {
	if err != nil {
		l.driver.registry.log.Info("a mapper refuses to remove what is gone from the cluster; it counts as removed", "mapper", l.reg.Name, "object", key, "error", err)
	}
	delete(of, key)
	l.unsaved = true
}

// probe asks for any device, to see whether the mapper answers.
func (l *link) probe() *job {
	for key, h := range l.devices {
		if h.absent {
			continue
		}
		namespace, name, _ := strings.Cut(key, "/")
		return &job{
			what: "GetDevice",
			call: func(ctx context.Context) error {
				_, err := l.reg.Mapper.Has(ctx, Device{Namespace: namespace, Name: name})
				return err
			},
			done: func(error, time.Time) {}, // any answer will do
		}
	}
	return nil
}

// settle takes over the outcome of a call.
func (l *link) settle(j *job, err error, now time.Time) {
	d := l.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link != l {
		return
	}
	if errors.Is(err, ErrNoAnswer) {
		l.fail(j, err, now)
		return
	}
	l.heard = now
	l.backoff.OK()
	if l.trouble != "" {
		l.trouble = ""
		d.registry.log.Info("a mapper answers again", "mapper", l.reg.Name, "protocol", d.name)
		for _, e := range d.entries {
			for p, r := range e.readings {
				r.doubt = "the mapper did not answer for some time, and has not reported this property since"
				e.readings[p] = r
			}
			e.tell()
		}
	}
	j.done(err, now)
}

// fail notes that the mapper did not answer.
func (l *link) fail(j *job, err error, now time.Time) {
	again := l.backoff.Failing()
	l.backoff.Failed(now, err, backoffBase, backoffLimit)
	l.heard = time.Time{}
	if now.Sub(l.since) < startGrace && !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	why := fmt.Sprintf("mapper %q (protocol %s, socket %s) does not answer: %s: %s: see whether it runs and what it logs, and restart it", l.reg.Name, l.driver.name, l.reg.Address, j.what, oneLine(err))
	if l.trouble == "" {
		l.driver.registry.log.Warn("a mapper does not answer; its devices are unreachable, and it is called again", "mapper", l.reg.Name, "protocol", l.driver.name, "call", j.what, "error", err)
	} else if again {
		why = l.trouble // the first reason stands, or the conditions would change at each attempt
	}
	changed := l.trouble != why
	l.trouble = why
	if !changed {
		return
	}
	for _, e := range l.driver.entries {
		if e.session != nil {
			e.session.gap(device.Bad, why, now)
		}
		e.tell()
	}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
