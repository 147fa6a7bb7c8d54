//go:build hil

package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/hil-tests/rig/process"
)

// alteredUpdate: somebody has changed a byte of a signed update on the stick. Nothing of it ever boots, and the gateway goes on.
func alteredUpdate(t *testing.T, w *world) {
	before, err := w.bootID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(w.dir, "altered.raucb")
	if _, err := process.Output(t.Context(), process.Spec{Path: "cp", Args: []string{"--", w.nextBundle(t), bundle}}); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(bundle)
	if err == nil {
		err = flipBit(bundle, st.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.orderUpdate(t, bundle)
	w.refused(t, bundle, "was altered or damaged after it was signed")
	w.pullStick(t)
	if now, err := w.bootID(t.Context()); err != nil || now != before {
		t.Errorf("the gateway has restarted for an altered update (%v)", err)
	}
	eventually(t, patience, "the node is Ready", w.ready)
}

// badUpdate: a signed update whose kernel does not find a whole initrd. It is tried, and the gateway is back in its old system by itself; the version is refused from then on.
func badUpdate(t *testing.T, w *world) {
	from, to := "A", "B"
	if w.slot(t.Context(), from) != nil {
		from, to = to, from
	}
	bundle, version := w.brokenBundle(t)
	seen := len(w.transcript(t))
	w.orderUpdate(t, bundle)
	w.refused(t, bundle, version)
	if err := w.slot(t.Context(), from); err != nil {
		t.Errorf("after an update that does not boot: %v", err)
	}
	if tries := strings.Count(w.transcript(t)[seen:], "skerry: slot "+to+" boots"); tries != 3 {
		t.Errorf("the system that does not boot was tried %d times, not 3", tries)
	}
	eventually(t, patience, "the agent is connected again", w.connected)
	eventually(t, patience, "the node is Ready", w.ready)

	w.orderAgain(t)
	w.refused(t, bundle, "has failed on this gateway before")
	w.pullStick(t)
	eventually(t, patience, "the node is Ready", w.ready)
}

func (w *world) transcript(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(w.target.Console().Transcript())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// refused waits until an update has ended in vain, for a reason that has to be told.
func (w *world) refused(t *testing.T, bundle, why string) {
	t.Helper()
	eventually(t, updatePatience, "the update "+filepath.Base(bundle)+" has failed", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		out, err := w.exec(ctx, "skerryd update status; ls /var/lib/skerry/updates/order.json")
		switch {
		case err != nil && !strings.Contains(out, "No such file"): // ls finds none once the order has ended
			return err
		case !strings.Contains(out, "No such file") || !strings.Contains(out, "update    Idle") || !strings.Contains(out, why):
			return errors.New(out)
		}
		t.Log(strings.TrimSpace(out))
		return nil
	})
}

// brokenBundle signs the image's system under a later version, with an initrd that was cut off. `make image` leaves the files and the keys.
func (w *world) brokenBundle(t *testing.T) (path, version string) {
	t.Helper()
	name := w.target.Rig().Board
	folder := filepath.Join(w.Module, "build", "images", name)
	boot, initrd, bundle := filepath.Join(w.dir, "boot.img"), filepath.Join(w.dir, "initrd"), filepath.Join(w.dir, "broken.raucb")
	var about struct{ Version string }
	text, err := os.ReadFile(filepath.Join(folder, "manifest.json"))
	if err == nil {
		err = json.Unmarshal(text, &about)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(path string, args ...string) {
		t.Helper()
		if _, err := process.Output(t.Context(), process.Spec{Path: path, Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	run("cp", "--", filepath.Join(folder, "boot.img"), boot)
	run("debugfs", "-R", "dump /initrd "+initrd, boot)
	st, err := os.Stat(initrd)
	if err == nil {
		err = os.Truncate(initrd, st.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
	run("debugfs", "-w", "-R", "rm /initrd", boot)
	run("debugfs", "-w", "-R", "write "+initrd+" initrd", boot)
	keys, err := rauc.DevelopmentKeys(filepath.Join(w.Module, "build", "keys", "updates"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	version = fmt.Sprintf("%s.2", about.Version)
	b := rauc.Bundle{Board: name, Version: version, Root: filepath.Join(folder, "rootfs.img"), Boot: boot, Build: time.Now().UTC().Format(time.RFC3339), Keys: keys}
	if err := b.Make(t.Context(), bundle); err != nil {
		t.Fatal(err)
	}
	return bundle, version
}
