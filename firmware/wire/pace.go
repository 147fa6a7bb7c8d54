package wire

import "time"

// Stride is how much of a message counts as a sign of life, as a whole message does, bytes. On a slow line a large message takes
// longer than a dead peer is waited for. A peer that trickles is no better than a dead one: it has to bring a stride in that time.
const Stride = 16 << 10

// strideEvery is how often a fast peer's progress is worth mention.
const strideEvery = time.Second

// Pace watches one message come. The zero value is ready. It is not safe for concurrent use.
type Pace struct {
	told time.Time
	have int // since the last stride, bytes
}

// Missing returns how many bytes there are to the end of the stride, at least 1.
func (p *Pace) Missing() int { return Stride - p.have }

// Got adds n bytes, and reports whether they complete a stride that is to be counted as a sign of life: at most one a second, and none
// in a message that is complete within a second.
func (p *Pace) Got(n int, now time.Time) bool {
	if p.told.IsZero() {
		p.told = now
	}
	if p.have += n; p.have < Stride {
		return false
	}
	p.have %= Stride
	if now.Sub(p.told) < strideEvery {
		return false
	}
	p.told = now
	return true
}
