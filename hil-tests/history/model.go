package history

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// call is an operation's input: on which register, and what is written to it; a read writes nothing.
type call struct {
	register string
	write    bool
	value    int
}

// Recorder collects operations. It is safe for concurrent use.
type Recorder struct {
	began time.Time

	mu      sync.Mutex
	clients map[string]int
	last    int64
	ops     []porcupine.Operation
}

// NewRecorder returns an empty recorder; times count from now.
func NewRecorder() *Recorder { return &Recorder{began: time.Now(), clients: map[string]int{}} }

// now is a time in the history that no other operation has. The caller holds mu.
func (r *Recorder) now() int64 {
	r.last = max(r.last+1, time.Since(r.began).Nanoseconds())
	return r.last
}

func (r *Recorder) add(client string, in call, out int, from, to int64) {
	id, ok := r.clients[client]
	if !ok {
		id = len(r.clients)
		r.clients[client] = id
	}
	r.ops = append(r.ops, porcupine.Operation{ClientId: id, Input: in, Output: out, Call: from, Return: to})
}

// open is the end of a write that Rest has not ended yet.
const open = 1 << 62

// Writes notes that a write of the next value begins now. It takes effect at some time until Rest.
func (r *Recorder) Writes(client, register string, value int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(client, call{register: register, write: true, value: value}, 0, r.now(), open)
}

// Sees notes that a reader has come to a value.
func (r *Recorder) Sees(client, register string, value int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.now()
	r.add(client, call{register: register}, value, at, at)
}

// Rest says that everything that was written must have arrived by now.
func (r *Recorder) Rest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.now()
	for i := range r.ops {
		if r.ops[i].Return == open {
			r.ops[i].Return = at
		}
	}
}

// Operations returns what was noted so far.
func (r *Recorder) Operations() []porcupine.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops)
}

// Register is porcupine's model of both directions: a register whose writer counts up, and whose readers may lag. A write takes
// effect for a reader at some time after it began, or is overtaken by a later one; what was overtaken is never seen.
func Register() porcupine.Model {
	return porcupine.Model{
		Partition: partition,
		Init:      func() any { return 0 },
		Step: func(state, input, output any) (bool, any) {
			in, have := input.(call), state.(int)
			if in.write {
				return true, max(have, in.value)
			}
			return output.(int) == have, have
		},
		DescribeOperation: func(input, output any) string {
			in := input.(call)
			if in.write {
				return fmt.Sprintf("%s ← %d", in.register, in.value)
			}
			return fmt.Sprintf("%s → %d", in.register, output)
		},
	}
}

// partition splits a history by register and reader: readers lag each on its own.
func partition(history []porcupine.Operation) [][]porcupine.Operation {
	type part struct {
		register string
		client   int
	}
	writes := map[string][]porcupine.Operation{}
	reads := map[part][]porcupine.Operation{}
	for _, op := range history {
		if in := op.Input.(call); in.write {
			writes[in.register] = append(writes[in.register], op)
		} else {
			p := part{in.register, op.ClientId}
			reads[p] = append(reads[p], op)
		}
	}
	parts := make([]part, 0, len(reads))
	for p := range reads {
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.register, b.register), cmp.Compare(a.client, b.client))
	})
	out := make([][]porcupine.Operation, 0, len(parts))
	for _, p := range parts {
		out = append(out, append(slices.Clone(writes[p.register]), reads[p]...))
	}
	return out
}
