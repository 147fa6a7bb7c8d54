package agent

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

type fakeOutbox struct{ bodies []string }

func (f *fakeOutbox) Append(_ string, body []byte) error {
	text, err := canon.ToJSON(body)
	f.bodies = append(f.bodies, string(text))
	return err
}

func TestRecorderHoldsBackWhatFlaps(t *testing.T) {
	var out bytes.Buffer
	box := &fakeOutbox{}
	r := newRecorder(box, slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r.now = func() time.Time { return now }
	ref := wire.ObjectRef{Kind: "Device", APIVersion: "devices.kubeedge.io/v1beta1", Namespace: "default", Name: "pump"}
	for range 25 {
		r.Event(ref, "Warning", "Unreachable", "no answer")
	}
	if len(box.bodies) != eventBurst {
		t.Errorf("%d events of 25 passed, want %d", len(box.bodies), eventBurst)
	}
	other := ref
	other.Name = "fan"
	r.Event(other, "Warning", "Unreachable", "no answer")
	if len(box.bodies) != eventBurst+1 {
		t.Error("one device's flapping holds back another's event")
	}
	now = now.Add(eventRefill)
	r.Event(ref, "Warning", "Unreachable", "no answer")
	last := box.bodies[len(box.bodies)-1]
	for _, want := range []string{`"count":16`, "(15 similar events were held back)", `"name":"pump"`, `"reason":"Unreachable"`, `"type":"Warning"`} {
		if !strings.Contains(last, want) {
			t.Errorf("the next event does not say %s: %s", want, last)
		}
	}
	if out.Len() != 0 {
		t.Errorf("events are logged by whoever records them; the recorder logged them again:\n%s", out.String())
	}
}
