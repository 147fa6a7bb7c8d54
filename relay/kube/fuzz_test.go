package kube

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// hostileSeeds are status documents, in JSON, that have the right shape and odd content, for each kind.
func hostileSeeds() map[wire.Kind][]string {
	return map[wire.Kind][]string{
		wire.KindNode: {readyNode,
			`{"labels":{"a":1,"b":null},"annotations":[],"status":{"conditions":[{"type":"Ready"},{"type":"Ready","status":7},null,[]],"capacity":{"cpu":"1e99999999","memory":-1}}}`,
			`{"status":{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"292277026596-12-04T15:30:07Z"}],"images":[{"names":null,"sizeBytes":18446744073709551615}]}}`,
		},
		wire.KindPod: {runningPod, `{"deleted":"yes"}`, `{"status":{"phase":7,"conditions":{"a":"b"},"startTime":1,"containerStatuses":[{"restartCount":9223372036854775807}]}}`,
			`{"status":{"conditions":[{"type":""},{"type":""},{"type":"PodScheduled","status":"False"}]}}`},
		wire.KindDevice: {`{"observedGeneration":-1,"conditions":[{"type":"Ready","lastTransitionTime":""}],"deviceStatus":{"twins":[{"propertyName":"a","reported":{"value":7}}]}}`,
			`{"conditions":null,"deviceStatus":{"extensions":{"summary":[]},"lastOnlineTime":"9999-99-99T99:99:99Z","twins":{}}}`},
	}
}

// FuzzStatusDocuments goes from a gateway's bytes to what would be sent to the API: merged, in comparable form, and as JSON.
func FuzzStatusDocuments(f *testing.F) {
	for _, docs := range hostileSeeds() {
		for _, s := range docs {
			b, err := canon.FromJSON([]byte(s))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := decodeReport(b)
		if err != nil {
			return
		}
		for _, kind := range []wire.Kind{wire.KindNode, wire.KindPod, wire.KindDevice} {
			oversized(kind, len(b), doc)
		}
		status := child(doc, "status")
		for what, merge := range map[string]func() (from, to map[string]any, err error){
			"node":   func() (map[string]any, map[string]any, error) { return nodeStatus(map[string]any{}, status, now) },
			"again":  func() (map[string]any, map[string]any, error) { return nodeStatus(status, status, now) },
			"pod":    func() (map[string]any, map[string]any, error) { return podStatus(map[string]any{}, status, time.Now()) },
			"device": func() (map[string]any, map[string]any, error) { return deviceState(map[string]any{}, doc) },
			"values": func() (map[string]any, map[string]any, error) {
				v, err := deviceStatus(child(doc, "deviceStatus"))
				return map[string]any{}, v, err
			},
		} {
			from, to, err := merge()
			if err != nil {
				if err.Error() == "" {
					t.Errorf("%s: an error without words", what)
				}
				continue
			}
			if _, err := json.Marshal(mergePatch(from, to)); err != nil {
				t.Errorf("%s: the patch cannot be sent: %v", what, err)
			}
		}
	})
}

// FuzzEventBodies goes from an outbox item to the Event that would be stored.
func FuzzEventBodies(f *testing.F) {
	for _, s := range []string{
		`{"ref":{"kind":"Node","name":"gw-1"},"type":"Warning","reason":"Failed","message":"it broke","time":"2026-01-01T00:00:00.5Z","count":3,"component":"pods"}`,
		`{"ref":{"kind":"Pod","namespace":"../..","name":"x","uid":"","fieldPath":"spec.containers{a}"},"type":"Normal","time":"9999-12-31T23:59:59Z","count":18446744073709551615,"component":"a/b\nc"}`,
		`{"ref":[],"type":null,"message":7}`,
	} {
		b, err := canon.FromJSON([]byte(s))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint64(1), uint64(2), b)
	}
	index := NewIndex(IndexOptions{Log: slog.New(slog.DiscardHandler)})
	sink := NewSink(SinkOptions{Index: index, Client: newFakeAPI(), Relay: "r", Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, epoch, seq uint64, b []byte) {
		doc, err := decodeReport(b)
		if err != nil {
			return
		}
		e, err := sink.event("gw-1", wire.OutboxItem{Epoch: epoch, Seq: seq, Kind: wire.KindOfEvent, Body: b}, doc)
		if err != nil {
			return
		}
		if len(e.Message) > eventMessageLimit || len(e.Reason) > eventReasonLimit || len(e.InvolvedObject.FieldPath) > eventPathLimit ||
			len(e.Source.Component) > eventSourceLimit || len(e.Name) > 253 || e.Source.Host != "gw-1" || e.Count < 1 {
			t.Errorf("%+v", e)
		}
		if d := time.Until(e.LastTimestamp.Time); d > eventClockLead {
			t.Errorf("the event is %v in the future", d)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Errorf("it cannot be sent: %v", err)
		}
	})
}

// FuzzLeaseOwner: anybody who may write Leases may write these annotations.
func FuzzLeaseOwner(f *testing.F) {
	f.Add("12", "relay-a", "12", int32(40))
	f.Add("-1", "", "x", int32(-1))
	f.Add("18446744073709551616", "a\nb", "", int32(0))
	sink := NewSink(SinkOptions{Index: NewIndex(IndexOptions{Log: slog.New(slog.DiscardHandler)}), Client: newFakeAPI(), Relay: "r", Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, epoch, relay, rv string, seconds int32) {
		l := sink.leaseOf(&nodeState{}, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{ResourceVersion: rv, Annotations: map[string]string{epochAnnotation: epoch, relayAnnotation: relay}},
			Spec:       coordinationv1.LeaseSpec{LeaseDurationSeconds: &seconds},
		})
		if n, err := strconv.ParseUint(epoch, 10, 64); l.relay != relay || err == nil && l.token != n || err != nil && l.token != 0 {
			t.Errorf("%q is read as %+v", epoch, l)
		}
	})
}
