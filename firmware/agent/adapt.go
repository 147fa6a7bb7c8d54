package agent

import (
	"context"
	"fmt"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// twins lets the device host keep its twins in the store.
type twins struct{ store *store.Store }

func (t twins) Scan(prefix string, fn func(key string, record []byte) error) error {
	return t.store.Scan(store.SpaceTwin, prefix, fn)
}

func (t twins) Commit(ctx context.Context, records []devices.TwinRecord) error {
	return t.store.Commit(ctx, twinBatch(records))
}

func (t twins) CommitLazy(records []devices.TwinRecord) error {
	return t.store.CommitLazy(twinBatch(records))
}

func twinBatch(records []devices.TwinRecord) store.Batch {
	var b store.Batch
	for _, r := range records {
		if r.Record == nil {
			b.Delete(store.SpaceTwin, r.Key)
		} else {
			b.Put(store.SpaceTwin, r.Key, r.Record)
		}
	}
	return b
}

func nodeInfo(f board.Facts) corev1.NodeSystemInfo {
	return corev1.NodeSystemInfo{
		MachineID: f.MachineID, SystemUUID: f.SystemUUID, BootID: f.BootID,
		KernelVersion: f.KernelVersion, OSImage: f.OSImage, OperatingSystem: "linux", Architecture: f.Architecture,
	}
}

// registerTaints returns the taints that the node registers with: the configuration's, or else the board's.
func (a *Agent) registerTaints() ([]corev1.Taint, error) {
	var out []corev1.Taint
	texts := a.cfg.Node.Taints
	if len(texts) == 0 {
		texts = a.board.Node.Taints
	}
	for i, text := range texts {
		t, err := config.ParseTaint(text)
		if err != nil {
			return nil, fmt.Errorf("node.taints[%d]: %w", i, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func reserved(amounts map[string]string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, text := range amounts {
		out[name] = corev1.Quantity(text)
	}
	return out
}
