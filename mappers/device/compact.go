package device

import "time"

// Compact is a Value in 40 bytes instead of 104, for those who keep many. It loses what a Value's times have beside their instants
// (location, monotonic clock). The zero Compact is the zero Value.
type Compact struct {
	num            uint64
	source, server int64 // ns since 1970; 0: none
	rest           *compactRest
	kind           Kind
	narrow         bool
	quality        Quality
}

// compactRest is what most values have not.
type compactRest struct{ text, reason string }

// Next returns v as the successor of a value that is kept: of the same text and reason only one copy is held.
func (c Compact) Next(v Value) Compact {
	next := Compact{num: v.num, source: nanos(v.Source), server: nanos(v.Server), kind: v.kind, narrow: v.narrow, quality: v.Quality}
	switch {
	case v.text == "" && v.Reason == "":
	case c.rest != nil && c.rest.text == v.text && c.rest.reason == v.Reason:
		next.rest = c.rest
	default:
		next.rest = &compactRest{v.text, v.Reason}
	}
	return next
}

// Value returns the value.
func (c Compact) Value() Value {
	v := Value{kind: c.kind, narrow: c.narrow, num: c.num, Quality: c.quality, Source: instant(c.source), Server: instant(c.server)}
	if c.rest != nil {
		v.text, v.Reason = c.rest.text, c.rest.reason
	}
	return v
}

// Kind is Value().Kind().
func (c Compact) Kind() Kind { return c.kind }

// Quality is Value().Quality.
func (c Compact) Quality() Quality { return c.quality }

// Reason is Value().Reason.
func (c Compact) Reason() string {
	if c.rest == nil {
		return ""
	}
	return c.rest.reason
}

// Times beyond what nanoseconds since 1970 can say are those of broken clocks; they become the nearest ones.
const (
	firstNano = -1 << 63
	lastNano  = 1<<63 - 1
)

func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Before(time.Unix(0, firstNano)):
		return firstNano
	case t.After(time.Unix(0, lastNano)):
		return lastNano
	}
	if n := t.UnixNano(); n != 0 {
		return n
	}
	return 1 // the very beginning of 1970 is a time, too
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
