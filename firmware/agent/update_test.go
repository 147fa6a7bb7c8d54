package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/pods"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/update"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWhoIsUpdated: a board with slots that was booted by the script, and nobody else; the others say why.
func TestWhoIsUpdated(t *testing.T) {
	for name, c := range map[string]struct {
		board, cmdline string
		off            bool
		why            string
	}{
		"an image":        {"qemu-armv7", "console=ttyAMA0 skerry.slot=B rauc.slot=B", false, ""},
		"switched off":    {"qemu-armv7", "skerry.slot=B", true, "update.enabled"},
		"no slots":        {"generic-arm64", "skerry.slot=B", false, "generic-arm64 is not updated by Skerry"},
		"another loader":  {"qemu-armv7", "root=/dev/vda1", false, "not started by Skerry's boot script"},
		"an unknown slot": {"qemu-armv7", "skerry.slot=C", false, "no slot"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			writeFile(t, filepath.Join(root, "proc/cmdline"), c.cmdline+"\n")
			writeFile(t, filepath.Join(root, "proc/sys/kernel/random/boot_id"), "1b2c\n")
			writeFile(t, filepath.Join(root, "usr/lib/skerry/image.json"), `{"board":"qemu-armv7","version":"1.2"}`)
			d, err := board.Library{}.Load(c.board)
			if err != nil {
				t.Fatal(err)
			}
			a := &Agent{cfg: config.Defaults(), board: board.Choice{Descriptor: d}, log: slog.New(slog.DiscardHandler)}
			a.cfg.DataDir, a.cfg.Update.Enabled = filepath.Join(root, "data"), !c.off
			if err := a.newUpdates(root); err != nil {
				t.Fatal(err)
			}
			runs := c.why == "" || c.off
			if (a.updates.updater != nil) != runs || !strings.Contains(a.updates.why, c.why) {
				t.Fatalf("updater %v, why %q, want why %q", a.updates.updater, a.updates.why, c.why)
			}
			if conditions := a.updates.condition(time.Now()); (len(conditions) == 1) != runs {
				t.Errorf("conditions %+v", conditions)
			} else if c.why == "" && (conditions[0].Status != "False" || conditions[0].Message != "version 1.2 runs in slot B") {
				t.Errorf("condition %+v", conditions[0])
			}
		})
	}
}

// TestPodsThatEnd: a Job's pod is waited for, and not missed after the restart.
func TestPodsThatEnd(t *testing.T) {
	pod := func(name, restart string) (p corev1.Pod) {
		p.Metadata.Namespace, p.Metadata.Name, p.Spec.RestartPolicy = "default", name, restart
		return p
	}
	var have []pods.PodState
	for _, name := range []string{"job", "retry", "web"} {
		have = append(have, pods.PodState{Namespace: "default", Name: name, Phase: "Running", Containers: 1, Ready: 1})
	}
	var f update.Facts
	sortPods(&f, have, []corev1.Pod{pod("job", "Never"), pod("retry", "OnFailure"), pod("web", "Always")})
	if web := []string{"default/web"}; !slices.Equal(f.Working.Pods, web) || !slices.Equal(f.Desired.Pods, web) || !slices.Equal(f.Busy, []string{"default/job", "default/retry"}) {
		t.Errorf("%+v", f)
	}
}

// TestMissingCA: the agent starts, and the download says what is missing.
func TestMissingCA(t *testing.T) {
	a := &Agent{cfg: config.Defaults()}
	a.cfg.Update.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	_, err := update.Downloader{Client: a.updateClient}.Download(t.Context(), "https://updates.example.org/x.skidx", t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "update.caFile") || update.Fatal(err) {
		t.Errorf("the download gives %v", err)
	}
}

func TestImageVersion(t *testing.T) {
	root := t.TempDir()
	if got := imageVersion(root); got != skerry.Version {
		t.Errorf("without an image it is %q", got)
	}
	writeFile(t, filepath.Join(root, "usr/lib/skerry/image.json"), "{")
	if got := imageVersion(root); got != skerry.Version {
		t.Errorf("with a damaged file it is %q", got)
	}
}

func TestSeedsAreTheRunningSlots(t *testing.T) {
	d, err := board.Library{}.Load("qemu-arm64")
	if err != nil {
		t.Fatal(err)
	}
	if got := seeds(d.Storage, bootenv.B); !slices.Equal(got, []string{"/dev/disk/by-partlabel/root-b", "/dev/disk/by-partlabel/boot-b"}) {
		t.Errorf("slot B runs, and the seeds are %v", got)
	}
}

func TestOnBattery(t *testing.T) {
	dir := t.TempDir()
	if got := onBattery(dir); got != "" {
		t.Errorf("without power supplies that tell: %q", got)
	}
	writeFile(t, filepath.Join(dir, "AC/online"), "0\n")
	writeFile(t, filepath.Join(dir, "AC/type"), "Mains\n")
	writeFile(t, filepath.Join(dir, "BAT/online"), "1\n")
	writeFile(t, filepath.Join(dir, "BAT/type"), "Battery\n")
	if got := onBattery(dir); got == "" {
		t.Error("the mains are off, and nobody minds")
	}
	writeFile(t, filepath.Join(dir, "AC2/online"), "1\n")
	writeFile(t, filepath.Join(dir, "AC2/type"), "Mains\n")
	if got := onBattery(dir); got != "" {
		t.Errorf("one of two mains is on: %q", got)
	}
}

// TestWantedUpdate: the Node's annotation, as long as the Node is known; one that makes no sense is told of once.
func TestWantedUpdate(t *testing.T) {
	dir := t.TempDir()
	sealer, err := store.OpenKeyFile(filepath.Join(dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(dir, "store"), Sealer: sealer, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	desired, err := store.NewDesired(s)
	if err != nil {
		t.Fatal(err)
	}
	outbox, err := store.NewOutbox(s, store.OutboxLimits{})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{cfg: config.Defaults(), desired: desired, outbox: outbox, log: slog.New(slog.DiscardHandler)}
	a.cfg.Node.Name = "gw-1"
	a.events = newRecorder("gw-1", outbox, a.log)
	revision := uint64(0)
	node := func(annotation string) {
		t.Helper()
		meta := map[string]any{"name": "gw-1", "uid": "u"}
		if annotation != "" {
			meta["annotations"] = map[string]any{update.AnnotationOrder: annotation}
		}
		text, err := json.Marshal(map[string]any{"metadata": meta})
		if err != nil {
			t.Fatal(err)
		}
		body, err := canon.FromJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		revision++
		o := wire.Object{Key: wire.NewKey(wire.KindNode, "", "gw-1", ""), Version: wire.Version{UID: "u", Hash: canon.Hash(body)}, Revision: revision, Body: body}
		if err := desired.Apply(context.Background(), wire.Commit{ID: revision, Put: []wire.Object{o}}); err != nil {
			t.Fatal(err)
		}
	}
	if o := a.wantedUpdate(); o != nil {
		t.Errorf("without a Node, this is wanted: %+v", o)
	}
	node(`{"id":"one","bundle":"https://updates.example.org/x.skidx"}`)
	if o := a.wantedUpdate(); o == nil || o.ID != "one" {
		t.Errorf("ordered one, wanted is %+v", o)
	}
	node("nonsense")
	for range 3 {
		if o := a.wantedUpdate(); o != nil {
			t.Errorf("nonsense was ordered, wanted is %+v", o)
		}
	}
	node("")
	if o := a.wantedUpdate(); o != nil {
		t.Errorf("withdrawn, wanted is %+v", o)
	}
	a.events.close()
	if n := outbox.Stats().Pending; n != 1 {
		t.Errorf("%d events of one order that makes no sense, want 1", n)
	}
}
