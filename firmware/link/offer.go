package link

import (
	"fmt"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// offer is the state of what a session offers from earlier ones: first one sum over all reports, then, if the relay asks for it,
// their hashes, a frame at a time.
type offer struct {
	seq     uint64 // of the newest offer sent
	asked   bool   // an answer to it is due
	items   []wire.OfferItem
	sent    int // of items, in the newest offer
	pending int // reports that are offered, and whose fate is not known yet
}

// beginOffer offers what was reported before, instead of sending all of it again: mostly the relay has it. What is queued
// already, because it is new, goes as it is. Nothing that an earlier session acknowledged is relied on.
func (m *Machine) beginOffer(now time.Time) {
	u := &m.up
	u.batch, u.seq, u.offer = nil, 0, offer{}
	keys := make([]wire.Key, 0, len(u.reports))
	for k, r := range u.reports {
		r.known, r.offered = false, false
		if !r.queued && !r.gone {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.Sort(keys)
	o := &u.offer
	o.items = make([]wire.OfferItem, 0, len(keys))
	for _, k := range keys {
		r := u.reports[k]
		r.acked, r.offered = canon.Hash(r.body), true
		o.items = append(o.items, wire.OfferItem{Key: k, Hash: r.acked})
	}
	o.pending = len(o.items)
	sum := wire.OfferSum(o.items)
	m.sendOffer(&wire.Offer{Sum: sum[:]}, now)
}

func (m *Machine) sendOffer(f *wire.Offer, now time.Time) {
	o := &m.up.offer
	o.seq++
	o.asked, o.sent = true, len(f.Items)
	f.Seq = o.seq
	m.send(f, now)
}

// offerList offers as many of the items that are left as fit one frame.
func (m *Machine) offerList(now time.Time) {
	o := &m.up.offer
	n, size := 0, 0
	for n < len(o.items) && n < wire.MaxItems {
		size += len(o.items[n].Key) + itemExtra
		if n > 0 && size > min(batchBytes, m.peerFrame-64) {
			break
		}
		n++
	}
	m.sendOffer(&wire.Offer{Items: o.items[:n:n]}, now)
}

func (m *Machine) wanted(w *wire.Want, now time.Time) {
	o := &m.up.offer
	if w.Seq != 0 {
		if !o.asked || w.Seq != o.seq || w.List && o.sent > 0 || w.Seq == 1 && len(w.Keys) > 0 {
			m.refuse(fmt.Errorf("answered offer %d with list %t and %d keys, the newest sent is %d", w.Seq, w.List, len(w.Keys), o.seq), now)
			return
		}
		o.asked = false
	}
	for _, k := range w.Keys {
		m.offerAgain(k, now)
	}
	switch {
	case w.Seq == 0:
	case w.List:
		m.offerList(now)
	case o.sent == 0: // of the sum: the relay has all
		m.settle(o.items)
		o.items = nil
	default:
		m.settle(o.items[:o.sent])
		if o.items = o.items[o.sent:]; len(o.items) > 0 {
			m.offerList(now)
		} else {
			o.items = nil
		}
	}
}

// settle notes that the relay has what was offered and not asked for.
func (m *Machine) settle(items []wire.OfferItem) {
	m.up.offer.pending -= len(items)
	for _, it := range items {
		if r := m.up.reports[it.Key]; r != nil && r.offered {
			r.offered, r.known = false, true
		}
	}
}
