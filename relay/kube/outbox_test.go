package kube

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

func TestReportsOfOneSessionAreBounded(t *testing.T) {
	withBench(t, func(b *bench) {
		b.sink.opts.MaxReportBytes = 1000
		b.start("gw-1", 7)
		doc := func(n int) string { return fmt.Sprintf(`{"status":{"phase":%q}}`, strings.Repeat("x", n)) }
		refused := func() uint64 { return b.counter(`skerry_relay_writer_reports_total{result="refused"}`) }
		b.report("gw-1", 7, "pods/default/a/1", doc(900))
		b.report("gw-1", 7, "pods/default/a/1", doc(901)) // in its place
		if refused() != 0 {
			t.Error("refused below the limit")
		}
		b.report("gw-1", 7, "pods/default/b/2", doc(100))
		if refused() != 1 {
			t.Error("taken beyond the limit")
		}
		time.Sleep(2 * objectPatience) // nobody knows the pod: its report is forgotten
		synctest.Wait()
		b.report("gw-1", 7, "pods/default/b/2", doc(900))
		if refused() != 1 {
			t.Error("what was forgotten still counts")
		}
	})
}

func event(t *testing.T, seq uint64, ref string) wire.OutboxItem {
	t.Helper()
	body, err := canon.FromJSON([]byte(`{"ref":` + ref + `,"type":"Warning","reason":"Failed","message":"it broke","time":"2026-01-01T00:00:00.5Z","count":3,"component":"pods"}`))
	if err != nil {
		t.Fatal(err)
	}
	return wire.OutboxItem{Epoch: 18, Seq: seq, Kind: wire.KindOfEvent, Body: body}
}

func TestEvents(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		items := []wire.OutboxItem{
			event(t, 1, `{"kind":"Pod","namespace":"default","name":"web","uid":"p1","fieldPath":"spec.containers{web}"}`),
			event(t, 2, `{"kind":"Node","name":"gw-1"}`),
			event(t, 3, `{"kind":"Pod","namespace":"default","name":"old","uid":"p0"}`),
			event(t, 4, `{"kind":"Node","name":"gw-2"}`),
			event(t, 5, `{"kind":"Secret","namespace":"default","name":"x"}`),
			{Epoch: 18, Seq: 6, Kind: wire.KindOfEvent, Body: []byte{0xc1}},
			{Epoch: 18, Seq: 7, Kind: "telemetry"},
		}
		for range 2 { // at least once means twice
			if err := b.sink.Outbox(b.t.Context(), "gw-1", items); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(b.api.objects[eventsGVR]); n != 3 {
			t.Errorf("%d events are stored, want 3", n)
		}
		first := b.api.get(eventsGVR, "default/gw-1.12.1")
		if field(first, "involvedObject", "name") != "web" || field(first, "count") != int64(3) || field(first, "message") != "it broke" ||
			field(first, "involvedObject", "fieldPath") != "spec.containers{web}" || field(first, "source", "host") != "gw-1" {
			t.Errorf("event is %v", first)
		}
		old := b.api.get(eventsGVR, "default/gw-1.12.3")
		if field(old, "involvedObject", "kind") != "Node" || !strings.Contains(field(old, "message").(string), "Pod default/old") {
			t.Errorf("event about a pod that is gone is %v", old)
		}
		if n := b.counter(`skerry_relay_events_total{result="duplicate"}`); n != 3 {
			t.Errorf("%d duplicates", n)
		}
		if err := b.sink.Outbox(b.t.Context(), "gw-2", items[:1]); err != nil || len(b.api.objects[eventsGVR]) != 3 {
			t.Errorf("gw-2 stored an event about gw-1's pod (%v)", err)
		}
		b.api.failWith(func(string, string, string) error { return context.DeadlineExceeded })
		if err := b.sink.Outbox(b.t.Context(), "gw-1", items[:1]); err == nil {
			t.Error("an event that could not be stored may be forgotten")
		}
	})
}

// TestOneNodeDoesNotFillAPIAndLog: a gateway that is taken over can harm only itself.
func TestOneNodeDoesNotFillAPIAndLog(t *testing.T) {
	withBench(t, func(b *bench) {
		var log strings.Builder
		b.sink.log = slog.New(slog.NewTextHandler(&log, nil))
		b.start("gw-1", 7)
		b.start("gw-2", 8)
		flood := make([]wire.OutboxItem, 2*eventBurst)
		for i := range flood {
			flood[i] = event(t, uint64(i), `{"kind":"Node","name":"gw-1"}`)
		}
		begin := time.Now()
		if err := b.sink.Outbox(b.t.Context(), "gw-1", flood); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("%d events were taken in %v", len(flood), took)
		}
		begin = time.Now()
		if err := b.sink.Outbox(b.t.Context(), "gw-2", flood[:1]); err != nil || time.Since(begin) > 0 {
			t.Errorf("another node waited %v for it, %v", time.Since(begin), err)
		}
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		if err := b.sink.Outbox(ctx, "gw-1", flood); err == nil {
			t.Error("what was not stored when the session ended may be forgotten")
		}

		log.Reset()
		for range 1000 {
			b.report("gw-1", 7, "nodes//gw-2", readyNode)
		}
		if n := strings.Count(log.String(), "\n"); n != complaintBurst {
			t.Errorf("1000 refused reports are %d lines", n)
		}
		b.report("gw-2", 8, "nodes//gw-1", readyNode)
		time.Sleep(complaintEvery)
		b.report("gw-1", 7, "nodes//gw-2", readyNode)
		if s := log.String(); strings.Count(s, "\n") != complaintBurst+2 || !strings.Contains(s, "unsaidBefore=990") {
			t.Errorf("the last lines are %s", s[max(0, len(s)-400):])
		}
	})
}

func TestEventNameFits(t *testing.T) {
	long := strings.Repeat("a", 230) + ".b"
	name := eventName(long, wire.OutboxItem{Epoch: 1<<64 - 1, Seq: 1 << 40})
	if len(name) > 253 || strings.Contains(name, "..") {
		t.Errorf("%d characters: %s", len(name), name)
	}
}
