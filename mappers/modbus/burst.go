package modbus

import (
	"context"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// maxBurst bounds how long values are written before those that are out are read back: on a slow line a call with thousands of values has
// something to show for its time when that is up, and readings are not held up for longer.
const maxBurst = 2 * time.Second

// job is one request of a write: of a value, or of neighbours that go out together.
type job struct {
	items   []written
	request *request // nil: it takes several steps, or is not made yet
}

// writeApart writes values that do not overlap: all that go out in plain requests one after the other, without a reading in between, and then
// reads them back. The order is that of items, whatever the device refuses.
func (s *session) writeApart(ctx context.Context, items []written) {
	var jobs []job
	for rest := items; len(rest) > 0; {
		n := s.group(rest)
		jobs, rest = append(jobs, job{items: rest[:n]}), rest[n:]
	}
	for len(jobs) > 0 {
		n := s.burst(ctx, jobs)
		s.readBack(ctx, items[:values(jobs[:n])])
		items, jobs = items[values(jobs[:n]):], jobs[n:]
	}
}

func values(jobs []job) (n int) {
	for _, j := range jobs {
		n += len(j.items)
	}
	return n
}

// apart tells how many of the first items have no bit in common. One that overwrites another has to wait until that has been read back.
func apart(items []written) int {
	if len(items) < 2 {
		return len(items)
	}
	type place struct {
		table table
		addr  int
	}
	taken := make(map[place]uint16, 2*len(items))
	for n, w := range items {
		p, mask := w.point, []byte(nil)
		if w.bits() {
			mask = p.layout.maskBytes()
		}
		for i := range int(p.width) {
			at, bits := place{p.table, int(p.addr) + i}, uint16(0xFFFF)
			if mask != nil {
				bits = uint16(mask[2*i])<<8 | uint16(mask[2*i+1])
			}
			if taken[at]&bits != 0 {
				return n
			}
			taken[at] |= bits
		}
	}
	return len(items)
}

// burst sends the first jobs until their time is up, and returns how many.
func (s *session) burst(ctx context.Context, jobs []job) (out int) {
	for until := time.Now().Add(maxBurst); out < len(jobs) && (out == 0 || time.Now().Before(until)); {
		sent, asked, err := s.chain(ctx, jobs[out:], until)
		for _, j := range jobs[out : out+sent] {
			if len(j.items) > 1 {
				s.trustGroups()
			}
		}
		if out += sent; out == len(jobs) || sent > 0 && err == nil {
			continue
		}
		if j := &jobs[out]; err != nil {
			s.amend(ctx, j, asked, err)
		} else {
			j.items[0].done(s.writeSteps(ctx, &j.items[0]))
		}
		if out++; jobs[out-1].items[0].bits() && isException(err, illegalFunction) {
			clearRequests(jobs[out:]) // it is known now that the device has no FC 22
		}
	}
	return out
}

func clearRequests(jobs []job) {
	for i := range jobs {
		jobs[i].request = nil
	}
}

// chain has the endpoint send the first jobs one after the other, each when the one before has been answered. It returns how many the device
// has carried out; an error is that of the next, which has been asked or has not gone out at all. It is 0 without an error if the first takes several
// steps.
func (s *session) chain(ctx context.Context, jobs []job, until time.Time) (sent int, asked bool, _ error) {
	if err := s.usable(ctx); err != nil {
		return 0, false, err
	}
	var requests []*request
	bits := false
	for i := range jobs {
		j := &jobs[i]
		if j.request == nil {
			j.request = s.requestOf(j.items)
		}
		if j.request == nil {
			break
		}
		requests, bits = append(requests, j.request), bits || j.items[0].bits()
	}
	if len(requests) == 0 {
		return 0, false, nil
	}
	if bits { // and not between another's reading of a register and its writing
		s.change.Lock()
		defer s.change.Unlock()
	}
	t := s.prepare(ctx, requests[0], classWrite)
	t.burst, t.until = requests, until
	s.endpoint.queue.push(t)
	err := s.wait(ctx, t)
	sent = int(t.carried.Load())
	asked = !t.left.Load() && t.asked // else the endpoint may still have it
	s.reuse(t)
	return sent, asked, err
}

// requestOf returns the first request to try for values that go out together.
func (s *session) requestOf(items []written) *request {
	if len(items) > 1 {
		return groupRequest(items)
	}
	return s.firstRequest(items[0])
}

// amend deals with the error of a job's request. asked: the request has gone out.
func (s *session) amend(ctx context.Context, j *job, asked bool, err error) {
	if isRefusal(err) {
		err = s.insist(ctx, j, err)
	}
	if len(j.items) > 1 && isRefusal(err) && !busy(err) {
		alone := true
		for i := range j.items { // perhaps it does not take them together
			w := &j.items[i]
			w.done(s.writeAlone(ctx, w))
			alone = alone && w.result.Err == nil
		}
		if alone { // so it was that, and not one of the values
			s.set(&s.noGroup)
		}
		return
	}
	if len(j.items) > 1 && asked && err != nil && !busy(err) && s.usable(ctx) == nil {
		s.doubtGroups() // it may be away, or one of those that say nothing to what they do not know
	}
	if len(j.items) == 1 {
		err = s.writeOtherwise(ctx, &j.items[0], err)
	}
	for i := range j.items {
		j.items[i].done(err)
	}
}

// insist asks a busy device again. Where bits of a register are written, nobody else may read and write that register meanwhile.
func (s *session) insist(ctx context.Context, j *job, err error) error {
	if j.items[0].bits() {
		s.change.Lock()
		defer s.change.Unlock()
	}
	_, err = s.patient(ctx, j.request, classWrite, nil, err)
	return err
}

// done notes that a value is out, or why it is not.
func (w *written) done(err error) {
	if !w.settled {
		*w.result = device.WriteResult{Err: err}
	}
}

// carriedOut ends a transaction whose request has been carried out, or goes on with its burst. Only the owner of the endpoint calls it.
func (e *endpoint) carriedOut(t *transaction) {
	if n := int(t.carried.Add(1)); n < len(t.burst) && time.Now().Before(t.until) {
		t.request, t.asked, t.again, t.tries = t.burst[n], false, false, 0
		e.queue.push(t)
		return
	}
	t.finish(nil)
}
