//go:build hil

package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/skerry/skerry/hil-tests/scenarios"
)

// damagedSlot: the flash has lost a bit of the system that boots. The other one boots instead, and everything else is as before.
func damagedSlot(t *testing.T, w *world) {
	m, ok := w.target.(interface{ Disk() string })
	if !ok {
		t.Fatal("the machine does not say where its disk is")
	}
	slot, other := w.slots(t) // power cuts before this may have used up slot A's tries
	if err := w.target.Off(t.Context()); err != nil {
		t.Fatal(err)
	}
	flip := func() {
		t.Helper()
		start, err := scenarios.PartitionStart(m.Disk(), "root-"+strings.ToLower(slot))
		if err == nil {
			err = flipBit(m.Disk(), start+64) // in the superblock, which every start reads
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flip()
	w.start(t)
	if err := w.slot(t.Context(), other); err != nil {
		t.Errorf("after slot %s was damaged: %v", slot, err)
	}
	eventually(t, patience, "the agent is connected again", w.connected)
	eventually(t, patience, "the node is Ready", w.ready)

	// Repaired, as an update would do it, with tries for both slots: a boot environment of nothing is that of a new disk.
	if err := w.target.Off(t.Context()); err != nil {
		t.Fatal(err)
	}
	flip()
	for _, name := range []string{"env-a", "env-b"} {
		start, err := scenarios.PartitionStart(m.Disk(), name)
		if err == nil {
			err = writeAt(m.Disk(), make([]byte, 64<<10), start)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.start(t)
	if err := w.slot(t.Context(), "A"); err != nil {
		t.Errorf("with slot %s repaired and a new environment: %v", slot, err)
	}
	eventually(t, patience, "the node is Ready", w.ready)
}

// slots are the one that the gateway runs from and the other one.
func (w *world) slots(t *testing.T) (running, other string) {
	t.Helper()
	running, other = "A", "B"
	if w.slot(t.Context(), running) != nil {
		running, other = other, running
	}
	if err := w.slot(t.Context(), running); err != nil {
		t.Fatalf("the gateway runs neither from slot A nor from B: %v", err)
	}
	t.Logf("the gateway runs from slot %s", running)
	return running, other
}

// slot is nil while the gateway runs from a slot.
func (w *world) slot(ctx context.Context, want string) error {
	line, err := w.exec(ctx, "cat /proc/cmdline")
	if err == nil && !strings.Contains(line, "skerry.slot="+want) {
		err = fmt.Errorf("not slot %s: %s", want, line)
	}
	return err
}

// start switches the power on and waits until commands run.
func (w *world) start(t *testing.T) {
	t.Helper()
	if err := w.target.On(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, bootPatience, "commands run on the gateway", w.answers)
}

func flipBit(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	if err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b, at)
	}
	return errors.Join(err, f.Close())
}

func writeAt(path string, b []byte, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

// factoryReset: everything goes but who the gateway is. It is Ready again without a token, and its devices come from the cloud.
func factoryReset(t *testing.T, w *world) {
	before, err := w.bootID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.run(t, "echo leftover >/var/lib/skerry/hil-leftover; mkdir -p /var/lib/skerry/system; echo keep-identity >/var/lib/skerry/system/factory-reset; sync")
	if err := w.target.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.rebooted(t, before)
	if left := w.run(t, "ls /var/lib/skerry/hil-leftover /var/lib/skerry/system/factory-reset 2>/dev/null || true"); left != "" {
		t.Errorf("left after the factory reset: %s", left)
	}
	eventually(t, bootPatience, "the agent is connected again", w.connected)
	eventually(t, patience, "the node is Ready", w.ready)
}
