package link

import (
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/wire"
)

// elsewhere holds the addresses that a relay named when it sent its agents away. Each is tried once, before the configured ones: a
// relay knows which others live and have room. They are as good as configured ones, because whoever answers has to show a
// certificate of the same CA; they are forgotten with the next session, and never stored.
type elsewhere struct {
	queue   []string
	dialled bool // the attempt or session under way is to one of them
}

// follow takes over the addresses that c names and returns what to tell people. Of a frame that came over the link, the number
// and form of the addresses has been checked (wire.Decode); it is checked again because of what a caller may hand in.
func (e *elsewhere) follow(c *wire.Close, from string) string {
	e.queue = nil
	for _, a := range c.Elsewhere {
		if len(e.queue) < wire.MaxElsewhere && wire.CheckAddress(a) == nil && a != from && !slices.Contains(e.queue, a) {
			e.queue = append(e.queue, a)
		}
	}
	if len(e.queue) == 0 {
		return ""
	}
	return ": going on with " + strings.Join(e.queue, ", ")
}

// next takes the address to dial next, if there is one.
func (e *elsewhere) next() (address string, ok bool) {
	if e.dialled = len(e.queue) > 0; !e.dialled {
		return "", false
	}
	address = e.queue[0]
	e.queue = e.queue[1:]
	return address, true
}
