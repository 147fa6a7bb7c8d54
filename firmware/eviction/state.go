package eviction

import "time"

// Observation is what is left of something, and how much there is of it in all.
type Observation struct{ Available, Capacity int64 }

// Observations are what was measured at one look. A signal that could not be measured is missing, and raises nothing.
type Observations map[Signal]Observation

// Met reports whether less is there than the threshold wants; with reclaim, than the threshold and its minimum reclaim.
func (o Observations) Met(t *Threshold, reclaim bool) bool {
	v, ok := o[t.Signal]
	if !ok || v.Capacity <= 0 {
		return false
	}
	return v.Available < t.Goal(v.Capacity, reclaim)
}

// Goal returns how much has to be there.
func (t *Threshold) Goal(capacity int64, reclaim bool) int64 {
	goal := t.Least.Of(capacity)
	if reclaim {
		goal += t.Reclaim.Of(capacity)
	}
	return goal
}

// Near reports whether less than twice a threshold is there of anything, so that it is worth to look more often.
func (o Observations) Near(rules []Threshold) bool {
	for i := range rules {
		t := &rules[i]
		if v, ok := o[t.Signal]; ok && v.Capacity > 0 && v.Available < 2*t.Least.Of(v.Capacity) {
			return true
		}
	}
	return false
}

// Decision is what follows from one look.
type Decision struct {
	Pressure map[string]Threshold // conditions that are true now, and the threshold that raised each last
	Due      []Threshold          // the thresholds for which pods have to go, in the order of the rules, one for each signal
}

// due adds a threshold. Of two of the same signal the hard one counts, which cannot wait.
func (d *Decision) due(t Threshold) {
	for i := range d.Due {
		if d.Due[i].Signal != t.Signal {
			continue
		}
		if t.Grace == 0 {
			d.Due[i] = t
		}
		return
	}
	d.Due = append(d.Due, t)
}

// State remembers since when thresholds are met, and when pressure was seen last.
type State struct {
	Transition time.Duration // how long a condition stays true after its threshold was met last

	since  map[Threshold]time.Time
	acting map[Threshold]bool // acted on: met until the minimum reclaim is there, too
	seen   map[string]sighting
}

type sighting struct {
	at  time.Time
	why Threshold
}

// Step takes one look at the node.
func (s *State) Step(rules []Threshold, o Observations, now time.Time) Decision {
	if s.since == nil {
		s.since, s.acting, s.seen = map[Threshold]time.Time{}, map[Threshold]bool{}, map[string]sighting{}
	}
	d := Decision{Pressure: map[string]Threshold{}}
	for i := range rules {
		t := rules[i]
		if !o.Met(&t, s.acting[t]) {
			delete(s.since, t)
			delete(s.acting, t)
			continue
		}
		first, known := s.since[t]
		if !known || now.Before(first) { // the clock was set back
			first = now
			s.since[t] = first
		}
		if old, ok := s.seen[t.Signal.Condition()]; !ok || !old.at.Equal(now) { // the first of several says why
			s.seen[t.Signal.Condition()] = sighting{at: now, why: t}
		}
		// A pod that is evicted is gone for good, on a gateway that is cut off until the link is back: one look alone, in the second in
		// which an image is unpacked, say, is no reason. What is faster than two looks is the kernel's business.
		if now.Sub(first) < t.Grace || first.Equal(now) {
			continue
		}
		s.acting[t] = true
		d.due(t)
	}
	for kind, last := range s.seen {
		if age := now.Sub(last.at); age < 0 || age >= s.Transition && age > 0 {
			delete(s.seen, kind)
			continue
		}
		d.Pressure[kind] = last.why
	}
	return d
}
