package devices

import (
	"sync"

	"github.com/skerry/skerry/mappers/device"
)

// buffers are needed for milliseconds by each reading of each device: a host that polls a hundred thousand properties has a few of them, and
// not one for each device. They are safe for concurrent use.
type buffers struct {
	values sync.Pool // of *[]device.Value
	fresh  sync.Pool // of *[]reading
	told   sync.Pool // of *[]told
}

// takeValues returns n zero values. A call that is given up keeps them.
func (b *buffers) takeValues(n int) *[]device.Value {
	if p, ok := b.values.Get().(*[]device.Value); ok && cap(*p) >= n {
		*p = (*p)[:n]
		return p
	}
	p := make([]device.Value, n)
	return &p
}

func (b *buffers) giveValues(p *[]device.Value) {
	clear(*p)
	b.values.Put(p)
}

// takeFresh returns an empty slice with room for n readings.
func (b *buffers) takeFresh(n int) *[]reading {
	if p, ok := b.fresh.Get().(*[]reading); ok && cap(*p) >= n {
		return p
	}
	p := make([]reading, 0, n)
	return &p
}

// giveFresh takes back what takeFresh returned, with what has been appended since.
func (b *buffers) giveFresh(p *[]reading, used []reading) {
	clear(used)
	*p = used[:0]
	b.fresh.Put(p)
}

// takeTold returns an empty slice.
func (b *buffers) takeTold() *[]told {
	if p, ok := b.told.Get().(*[]told); ok {
		return p
	}
	return new([]told)
}

func (b *buffers) giveTold(p *[]told) {
	if cap(*p) > maxBurst {
		return // after a burst of a device with many points
	}
	clear(*p)
	*p = (*p)[:0]
	b.told.Put(p)
}
