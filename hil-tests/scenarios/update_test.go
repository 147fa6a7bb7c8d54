//go:build hil

package scenarios_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/scenarios"
)

// updatePatience is for what an emulated gateway takes to copy, check and write a system.
const updatePatience = 2 * bootPatience

// nextBundle is an update for the board's image that make hil has built: the same system under another version.
func (w *world) nextBundle(t *testing.T) string {
	t.Helper()
	board := w.target.Rig().Board
	path := filepath.Join(w.Module, "build", "hil", "next", board, "skerry-"+board+".raucb")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the update for the board is missing (make hil-images): %v", err)
	}
	return path
}

// orderUpdate plugs in a stick with a bundle and gives the order.
func (w *world) orderUpdate(t *testing.T, bundle string) {
	t.Helper()
	stick := filepath.Join(w.dir, "update-stick.img")
	if err := scenarios.Stick(t.Context(), stick, 192, map[string]string{"update.raucb": bundle}); err != nil {
		t.Fatal(err)
	}
	if err := w.target.InsertStick(t.Context(), stick); err != nil {
		t.Fatal(err)
	}
	w.orderAgain(t)
}

// orderAgain gives the order for the bundle on the stick that is plugged in.
func (w *world) orderAgain(t *testing.T) {
	t.Helper()
	eventually(t, patience, "the gateway sees the stick", func(ctx context.Context) error {
		_, err := w.exec(ctx, "test -b /dev/sda1")
		return err
	})
	w.run(t, "mkdir -p /run/stick && { mountpoint -q /run/stick || mount -o ro /dev/sda1 /run/stick; } && skerryd update install /run/stick/update.raucb")
}

// pullStick takes the stick out, as a technician does.
func (w *world) pullStick(t *testing.T) {
	t.Helper()
	w.run(t, "umount /run/stick")
	if err := w.target.RemoveStick(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// updateWithCut: a technician brings an update, and the power fails while it is written. The gateway boots the system that it had, goes on with the update by
// itself (the stick is out), runs the new system from the other slot, and keeps it.
func updateWithCut(t *testing.T, w *world) {
	before := w.run(t, "cat /usr/lib/skerry/image.json")
	from, to := w.slots(t)
	w.orderUpdate(t, w.nextBundle(t))
	eventually(t, updatePatience, "the update is being written", func(ctx context.Context) error {
		out, err := w.exec(ctx, "skerryd update status")
		if err == nil && !strings.Contains(out, "Installing") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	if err := w.target.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	if err := w.slot(t.Context(), from); err != nil {
		t.Errorf("after the power cut: %v", err)
	}
	eventually(t, updatePatience, "the gateway runs from the other slot", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		err := w.slot(ctx, to)
		if err != nil {
			status, _ := w.exec(ctx, "skerryd update status") // it says why, if it answers
			err = fmt.Errorf("%w\n%s", err, status)
		}
		return err
	})
	if after := w.run(t, "cat /usr/lib/skerry/image.json"); after == before {
		t.Errorf("the system is the same as before: %s", after)
	}
	eventually(t, updatePatience, "the update is confirmed", func(ctx context.Context) error {
		out, err := w.exec(ctx, "skerryd update status")
		if err == nil && !strings.Contains(out, "Idle") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	eventually(t, patience, "the node is Ready", w.ready)
}
