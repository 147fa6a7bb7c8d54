package agent

import (
	"context"

	"github.com/skerry/skerry/board"
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
