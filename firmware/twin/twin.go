package twin

import (
	"cmp"
	"time"
)

// Origin says who wants a value.
type Origin uint8

// The origins.
const (
	Nobody Origin = iota // no value is wanted
	Cloud
	Edge
)

func (o Origin) String() string { return [...]string{"nobody", "cloud", "edge"}[min(o, Edge)] }

// Desired is a wanted value with its version. The zero Desired wants nothing.
type Desired struct {
	Origin Origin `msg:"o,omitempty"`
	// Generation is the Device generation at which a cloud value appeared, or that the writer of an edge value saw.
	Generation int64 `msg:"g,omitempty"`
	// Seq orders edge writes of the same generation.
	Seq uint64 `msg:"s,omitempty"`
	// Value is the text of the value in the model's type.
	Value string `msg:"v,omitempty"`
}

// Compare orders versions: positive if a wins over b. Different values never compare equal, so the order is total.
func (a Desired) Compare(b Desired) int {
	return cmp.Or(
		cmp.Compare(a.Generation, b.Generation),
		cmp.Compare(a.Origin, b.Origin), // in the same generation the edge's write stands
		cmp.Compare(a.Seq, b.Seq),
		cmp.Compare(a.Value, b.Value),
	)
}

// Merge returns the one that wins.
func Merge(a, b Desired) Desired {
	if a.Compare(b) >= 0 {
		return a
	}
	return b
}

// Outcome is what became of a desired value.
type Outcome uint8

// The outcomes.
const (
	Pending  Outcome = iota // not tried yet, or it is not known whether the device got it
	Verified                // written, and read back as written
	Applied                 // written and accepted; the device offers no read-back
	Failed                  // the device refused it or did not show it afterwards; tried again later
	Refused                 // it can never be written: wrong type, out of range, read-only; not tried again
)

func (o Outcome) String() string {
	return [...]string{"pending", "verified", "applied", "failed", "refused"}[min(o, Refused)]
}

// Attempt is the last attempt at a desired value.
type Attempt struct {
	Desired Desired   `msg:"d"` // what was tried
	Outcome Outcome   `msg:"o,omitempty"`
	Reason  string    `msg:"r,omitempty"` // why it is not verified
	At      time.Time `msg:"t,omitempty"`
	Tries   int       `msg:"n,omitempty"` // attempts in a row that failed
}

// Property is the twin of one property, without the reported value: whoever owns the twin keeps that, in its own type.
type Property struct {
	CloudDesired Desired `msg:"c"`
	EdgeDesired  Desired `msg:"e"`
	Last         Attempt `msg:"l"`
}

// Empty tells whether nobody ever wanted a value.
func (p *Property) Empty() bool {
	l := p.Last
	return p.CloudDesired == Desired{} && p.EdgeDesired == Desired{} && l.Desired == Desired{} && l.Outcome == Pending && l.Reason == "" && l.At.IsZero() && l.Tries == 0
}

// SetCloud takes over what version generation of the Device wants; an empty value means nothing. A value that did not
// change keeps the generation at which it appeared: changing a cycle in the manifest must neither write the value again
// nor override an edge write. An older generation than one already seen is ignored. It tells whether anything changed.
func (p *Property) SetCloud(value string, generation int64) bool {
	old := p.CloudDesired
	if generation < old.Generation || value == old.Value && (old.Origin == Cloud || value == "") {
		return false
	}
	p.CloudDesired = Desired{Origin: Cloud, Generation: generation, Value: value}
	return true
}

// Rewind drops what claims to be newer than generation, which is the Device's own now: a cluster restored from a backup counts
// generations again, and its values would otherwise lose against ones that it no longer knows. It tells whether anything
// was dropped.
func (p *Property) Rewind(generation int64) bool {
	dropped := false
	for _, d := range []*Desired{&p.CloudDesired, &p.EdgeDesired} {
		if d.Generation > generation {
			*d, dropped = Desired{}, true
		}
	}
	return dropped
}

// SetEdge takes over an edge write by someone who saw generation. It reports whether the write stands; a stale one
// changes nothing.
func (p *Property) SetEdge(value string, generation int64, seq uint64) bool {
	next := Desired{Origin: Edge, Generation: generation, Seq: seq, Value: value}
	if Merge(p.Desired(), next) != next {
		return false
	}
	p.EdgeDesired = next
	return true
}

// Desired returns the value that counts now. Its Value is empty if nothing is wanted.
func (p *Property) Desired() Desired { return Merge(p.CloudDesired, p.EdgeDesired) }

// Wanted tells whether there is a desired value.
func (p *Property) Wanted() bool { return p.Desired().Value != "" }

// Outcome returns what became of the value that counts now, and the reason.
func (p *Property) Outcome() (Outcome, string) {
	if p.Last.Desired != p.Desired() {
		return Pending, ""
	}
	return p.Last.Outcome, p.Last.Reason
}

// Unsettled tells whether the value that counts now still has to be written, at once or after a back-off.
func (p *Property) Unsettled() bool {
	o, _ := p.Outcome()
	return p.Wanted() && (o == Pending || o == Failed)
}

// Due tells whether to write now: at once if it was never tried, after a back-off if it failed. The back-off doubles
// from base to limit. If now is before the last attempt the clock was set back, and waiting would mean nothing.
func (p *Property) Due(now time.Time, base, limit time.Duration) bool {
	if !p.Unsettled() {
		return false
	}
	if p.Last.Desired != p.Desired() || p.Last.Tries == 0 || now.Before(p.Last.At) {
		return true
	}
	return !now.Before(p.Last.At.Add(Backoff(p.Last.Tries, base, limit)))
}

// Record notes an attempt at d. An attempt at a value that no longer counts leaves the newer one pending.
func (p *Property) Record(d Desired, o Outcome, reason string, now time.Time) {
	tries := 0
	if o == Failed || o == Pending {
		tries = 1
		if p.Last.Desired == d {
			tries = p.Last.Tries + 1
		}
	}
	p.Last = Attempt{Desired: d, Outcome: o, Reason: reason, At: now, Tries: tries}
}

// Backoff returns base doubled for each try after the first, at most limit.
func Backoff(tries int, base, limit time.Duration) time.Duration {
	d := base
	for ; tries > 1 && d < limit; tries-- {
		d *= 2
	}
	return min(d, limit)
}
