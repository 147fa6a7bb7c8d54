package sim

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// traceLength is how many of the last events a failing seed prints.
const traceLength = 250

// line is one entry of the trace: who, what happened, details.
type line struct {
	at   time.Duration
	who  string
	what string
	more string
}

// tracer keeps the last lines, and a hash of all of them: two runs of one seed must have the same.
type tracer struct {
	ring  []line
	next  int
	hash  uint64
	lines uint64
	out   io.Writer // every line as it comes; may be nil
}

func (t *tracer) add(l line) {
	const prime = 1099511628211
	if t.hash == 0 {
		t.hash = 14695981039346656037
	}
	h := t.hash
	for v := uint64(l.at); v > 0; v >>= 8 {
		h = (h ^ v&0xff) * prime
	}
	for _, part := range [...]string{l.who, l.what, l.more} {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * prime
		}
		h *= prime
	}
	t.hash = h
	t.lines++
	if t.out != nil {
		fmt.Fprintln(t.out, l)
	}
	if len(t.ring) < traceLength {
		t.ring = append(t.ring, l)
		return
	}
	t.ring[t.next] = l
	t.next = (t.next + 1) % traceLength
}

// last returns the kept lines in order.
func (t *tracer) last() []string {
	out := make([]string, 0, len(t.ring))
	for i := range t.ring {
		out = append(out, t.ring[(t.next+i)%len(t.ring)].String())
	}
	return out
}

// String gives time, actor, event and details in columns.
func (l line) String() string {
	return strings.TrimRight(fmt.Sprintf("%13s  %-22s %-16s %s", clock(l.at), l.who, l.what, l.more), " ")
}

// clock writes a virtual time as hours:minutes:seconds.milliseconds.
func clock(d time.Duration) string {
	ms := d.Milliseconds()
	return fmt.Sprintf("%d:%02d:%02d.%03d", ms/3_600_000, ms/60_000%60, ms/1000%60, ms%1000)
}

func (s *Sim) note(who, what, more string) {
	s.trace.add(line{at: s.now.Sub(s.began), who: who, what: what, more: more})
}

// describe writes a frame as the trace shows it.
func describe(f wire.Frame) string {
	var b strings.Builder
	switch t := f.(type) {
	case *wire.CommitPart:
		fmt.Fprintf(&b, "commit %d", t.ID)
		if t.Part > 0 || t.More {
			fmt.Fprintf(&b, " part %d", t.Part)
		}
		for i := range t.Put {
			o := &t.Put[i]
			if o.Absent {
				fmt.Fprintf(&b, " ~%s@%d", o.Key, o.Revision)
			} else {
				fmt.Fprintf(&b, " +%s@%d", o.Key, o.Revision)
			}
		}
		for _, k := range t.Delete {
			b.WriteString(" -" + string(k))
		}
	case *wire.Report:
		fmt.Fprintf(&b, "report %d", t.Seq)
		for i := range t.Items {
			fmt.Fprintf(&b, " %s#%d", t.Items[i].Key, counterOf(t.Items[i].Body))
		}
	case *wire.Offer:
		fmt.Fprintf(&b, "offer %d", len(t.Items))
	case *wire.Want:
		b.WriteString("want")
		for _, k := range t.Keys {
			b.WriteString(" " + string(k))
		}
	case *wire.Outbox:
		first, last := t.Items[0], t.Items[len(t.Items)-1]
		fmt.Fprintf(&b, "outbox %d/%d-%d", first.Epoch, first.Seq, last.Seq)
	case *wire.Ack:
		fmt.Fprintf(&b, "ack %d", t.ID)
	case *wire.ReportAck:
		fmt.Fprintf(&b, "report ack %d", t.Seq)
	case *wire.OutboxAck:
		fmt.Fprintf(&b, "outbox ack %d/%d", t.Epoch, t.Seq)
	case *wire.Close:
		fmt.Fprintf(&b, "close %v", t.Code)
	case *wire.Welcome:
		b.WriteString("welcome")
	case *wire.Entries:
		fmt.Fprintf(&b, "entries %d", len(t.Entries))
	default:
		b.WriteString(f.Type().String())
	}
	return b.String()
}
