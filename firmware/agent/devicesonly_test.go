package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

type reportList map[wire.Key][][]byte

func (r reportList) Report(key wire.Key, body []byte) { r[key] = append(r[key], body) }

func TestDevicesOnlyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 11*time.Minute)
		defer cancel()
		reports := reportList{}
		if err := reportDevicesOnlyNode(ctx, "gw-1", board.Facts{Architecture: "arm", MemoryBytes: 128 << 20}, nodeExtras{labels: map[string]string{boardLabel: "qemu-armv7"}}, reports); err != nil {
			t.Fatal(err)
		}
		bodies := reports[wire.NewKey(wire.KindNode, "", "gw-1", "")]
		if len(bodies) != 3 { // at 0, 5 and 10 minutes
			t.Fatalf("%d reports in 11 minutes, want 3", len(bodies))
		}
		v, err := canon.ToValue(bodies[0])
		if err != nil {
			t.Fatal(err)
		}
		status := v.(map[string]any)["status"].(map[string]any)
		if got := status["allocatable"].(map[string]any)["pods"]; got != "0" {
			t.Errorf("allocatable pods %v, want 0: the scheduler must leave the node alone", got)
		}
		ready := status["conditions"].([]any)[0].(map[string]any)
		if ready["type"] != "Ready" || ready["status"] != "True" || ready["reason"] != "DevicesOnly" {
			t.Errorf("condition %v", ready)
		}
	})
}
