package store

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func mustOutbox(t *testing.T, s *Store, l OutboxLimits) *Outbox {
	t.Helper()
	o, err := NewOutbox(s, l)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func appendItem(t *testing.T, o *Outbox, body string) {
	t.Helper()
	if err := o.Append("event", []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// waiting returns the bodies and the last position of what Pending returns.
func waiting(o *Outbox, limit int) (bodies string, epoch, seq uint64) {
	var parts []string
	for _, it := range o.Pending(0, limit) {
		parts = append(parts, string(it.Body))
		epoch, seq = it.Epoch, it.Seq
	}
	return strings.Join(parts, " "), epoch, seq
}

func TestOutboxKeepsUntilAcknowledged(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	o := mustOutbox(t, s, OutboxLimits{})
	for i := range 4 {
		appendItem(t, o, fmt.Sprint("a", i))
	}
	<-o.C()
	got, epoch, seq := waiting(o, 2)
	if got != "a0 a1" || epoch != s.Epoch() || seq != 2 {
		t.Fatalf("%q, epoch %d, seq %d", got, epoch, seq)
	}
	if err := o.Ack(epoch, seq); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := waiting(o, 10); got != "a2 a3" {
		t.Errorf("after the acknowledgement: %q", got)
	}
	mustClose(t, s)

	s = mustOpen(t, opt)
	o = mustOutbox(t, s, OutboxLimits{})
	<-o.C()
	appendItem(t, o, "b0")
	got, first, seq := waiting(o, 10)
	if got != "a2 a3" || first != epoch {
		t.Fatalf("items of two epochs in one answer, or out of order: %q, epoch %d", got, first)
	}
	if err := o.Ack(first, seq); err != nil {
		t.Fatal(err)
	}
	got, second, seq := waiting(o, 10)
	if got != "b0" || second <= first || seq != 1 {
		t.Fatalf("%q, epoch %d after %d, seq %d", got, second, first, seq)
	}
	if err := o.Ack(second, seq); err != nil {
		t.Fatal(err)
	}
	if st := o.Stats(); st.Pending != 0 || st.PendingBytes != 0 || st.Dropped != 0 {
		t.Errorf("stats: %+v", st)
	}
	mustClose(t, s)
	if o := mustOutbox(t, mustOpen(t, opt), OutboxLimits{}); o.Stats().Pending != 0 {
		t.Error("acknowledged items came back after an orderly end")
	}
}

func TestOutboxDropsOldestAndCounts(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	limits := OutboxLimits{Items: 20}
	o := mustOutbox(t, s, limits)
	for i := range 50 {
		appendItem(t, o, fmt.Sprint(i))
		if st := o.Stats(); st.Pending > 20 || st.Pending+int(st.Dropped) != i+1 {
			t.Fatalf("after %d: %+v", i+1, st)
		}
	}
	before := o.Stats()
	got, _, _ := waiting(o, 100)
	if before.Dropped == 0 || !strings.HasSuffix(got, "48 49") || !strings.HasPrefix(got, fmt.Sprint(before.Dropped)+" ") {
		t.Errorf("%q, %+v", got, before)
	}
	mustClose(t, s)
	o = mustOutbox(t, mustOpen(t, opt), limits)
	after := o.Stats()
	if after.Dropped != before.Dropped || after.DroppedBytes != before.DroppedBytes || after.Pending != before.Pending || after.PendingBytes != before.PendingBytes {
		t.Errorf("after reopening %+v, before %+v", after, before)
	}
}

func TestOutboxBytesLimit(t *testing.T) {
	o := mustOutbox(t, mustOpen(t, fastOptions(t, t.TempDir())), OutboxLimits{Bytes: 10_000})
	for range 30 {
		appendItem(t, o, strings.Repeat("x", 1000))
	}
	if st := o.Stats(); st.PendingBytes > 10_000 || st.Pending < 8 {
		t.Errorf("stats: %+v", st)
	}
	if err := o.Append("event", make([]byte, maxOutboxBody+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large an item: %v", err)
	}
}

func TestOutboxOnAFullDisk(t *testing.T) {
	f := &faultFS{err: syscall.ENOSPC}
	opt := fastOptions(t, t.TempDir())
	opt.fs = f
	o := mustOutbox(t, mustOpen(t, opt), OutboxLimits{Items: 3})
	for i := range 3 {
		appendItem(t, o, fmt.Sprint(i))
	}
	f.from, f.last = f.calls, 1<<30
	if err := o.Append("event", []byte("lost")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Append: %v", err)
	}
	if got, _, _ := waiting(o, 10); got != "0 1 2" || o.Stats().Dropped != 0 {
		t.Errorf("a failed Append dropped something: %q, %+v", got, o.Stats())
	}
	f.last = 0
	appendItem(t, o, "3")
	if got, _, seq := waiting(o, 10); got != "1 2 3" || seq != 4 {
		t.Errorf("%q, seq %d", got, seq)
	}
}

func TestOutboxPassesOverLostItems(t *testing.T) {
	s := mustOpen(t, fastOptions(t, t.TempDir()))
	o := mustOutbox(t, s, OutboxLimits{})
	for i := range 3 {
		appendItem(t, o, fmt.Sprint(i))
	}
	remove(t, s, SpaceOutbox, outboxEntry{s.Epoch(), 1, 0}.key())
	if got, _, _ := waiting(o, 1); got != "" {
		t.Errorf("a lost item came back: %q", got)
	}
	if got, _, _ := waiting(o, 1); got != "1" {
		t.Errorf("after a lost item: %q", got)
	}
}

// TestOutboxTogether: messages that are stored together are one commit, stay in order, and are all there or none.
func TestOutboxTogether(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	o := mustOutbox(t, s, OutboxLimits{Items: 20})
	appendItem(t, o, "a")
	if err := o.AppendAll("event", [][]byte{[]byte("b"), []byte("c"), []byte("d")}); err != nil {
		t.Fatal(err)
	}
	if err := o.AppendAll("event", [][]byte{[]byte("e"), make([]byte, maxOutboxBody+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large an item: %v", err)
	}
	if got, _, seq := waiting(o, 10); got != "a b c d" || seq != 4 {
		t.Errorf("%q, seq %d", got, seq)
	}
	var many [][]byte
	for i := range 18 { // a tenth of the room is made at once
		many = append(many, []byte(fmt.Sprint(i)))
	}
	if err := o.AppendAll("event", many); err != nil {
		t.Fatal(err)
	}
	if st := o.Stats(); st.Pending != 18 || st.Dropped != 4 {
		t.Errorf("stats %+v", st)
	}
	mustClose(t, s)
	o = mustOutbox(t, mustOpen(t, opt), OutboxLimits{Items: 20})
	if got, _, seq := waiting(o, 3); got != "0 1 2" || seq != 7 {
		t.Errorf("after reopening: %q, seq %d", got, seq)
	}
}
