package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/firmware/health/readonly"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// conditionReadOnly is the node's condition of a gateway whose data are on a file system that the kernel has made read-only.
const conditionReadOnly = "SkerryDiskReadOnly"

// disk is what looks after the file system of the agent's data. The zero value does not.
type disk struct {
	guard *readonly.Guard

	mu    sync.Mutex
	since time.Time // the condition is as it is
}

// newDisk begins before the store is opened, which needs a disk that takes writes. Only an image of ours is known to check its disk when it starts.
func (a *Agent) newDisk(root string) {
	a.disk.since = a.started
	id, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		a.log.Warn("whether the disk becomes read-only is not looked at", "error", err)
		return
	}
	o := readonly.Options{
		Dir: JournalDir(a.cfg), Boot: strings.TrimSpace(string(id)), ReadOnly: readonly.Look(a.cfg.DataDir, filepath.Join(root, "proc/self/mounts")),
		GoingDown: a.health.goingDown.Load, Changed: a.diskChanged, Log: a.log.With("part", "disk"),
	}
	if cmdline, err := os.ReadFile(filepath.Join(root, "proc/cmdline")); err == nil {
		if _, err := rauc.Current(string(cmdline)); err == nil {
			o.Restart = a.restartForDisk
		}
	}
	a.disk.guard = readonly.New(o)
}

// restartForDisk has the machine restart; with force nothing is waited for, and nothing written: there is nothing that could be.
func (a *Agent) restartForDisk(ctx context.Context, force bool) error {
	a.health.goingDown.Store(true)
	if !force {
		return reboot(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if said, err := exec.CommandContext(ctx, "systemctl", "reboot", "--force", "--force").CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl reboot --force --force: %w: %s", err, strings.TrimSpace(string(said)))
	}
	return nil
}

// diskChanged tells wherever somebody may hear it. What goes through the store may be lost: the condition does not.
func (a *Agent) diskChanged(s readonly.State) {
	a.disk.mu.Lock()
	a.disk.since = s.Since
	a.disk.mu.Unlock()
	if j := a.health.journal.Load(); j != nil {
		j.Console(s.Message)
	}
	a.systemdStatus(s.Message)
	if a.events != nil {
		a.warnNode("DiskReadOnly")(s.Message)
	}
}

// withoutStore is for an agent that cannot open its store. On a disk that has become read-only it waits for the machine's restart; it has nothing else to do.
func (a *Agent) withoutStore(ctx context.Context) error {
	if a.disk.guard == nil || !a.disk.guard.Restarts() {
		return nil
	}
	a.ready(ctx)
	return a.disk.guard.Run(ctx)
}

func (d *disk) conditions() []corev1.Condition {
	if d.guard == nil {
		return nil
	}
	s := d.guard.State()
	d.mu.Lock()
	defer d.mu.Unlock()
	c := corev1.Condition{
		Type: conditionReadOnly, Status: "False", Reason: "Writable", Message: "the disk takes what is written",
		LastTransitionTime: corev1.NewTime(d.since), LastHeartbeatTime: corev1.NewTime(d.since),
	}
	if s.ReadOnly {
		c.Status, c.Reason, c.Message = "True", "ReadOnly", s.Message
	}
	return []corev1.Condition{c}
}
