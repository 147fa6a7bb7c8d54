package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/firmware/config"
)

// bootDeadline is what skerry-trial.service of an image calls. It depends on nothing that a new system may have broken: not on the agent, not on the
// configuration, not on a lock.
func bootDeadline(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs, load := flags("boot-deadline", stderr)
	if err := parse(fs, args); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	slot, err := rauc.Current(string(cmdline))
	if err != nil {
		fmt.Fprintln(stdout, "nothing to watch:", err)
		return nil
	}
	cfg, broken := load()
	if broken != nil {
		cfg = config.Defaults()
	}
	paths, err := environment(cfg)
	if err != nil {
		return err
	}
	return rauc.Deadline{
		Slot: slot, After: max(rauc.DefaultDeadline, cfg.Update.HealthTimeout+rauc.DefaultDeadline/2),
		Alone: func() bool { _, err := load(); return err != nil },
		Check: func(ctx context.Context) error {
			return rauc.CheckRoot(ctx, "/dev/disk/by-partlabel/root-"+strings.ToLower(string(slot)), string(cmdline))
		},
		Peek: func() (bootenv.Env, error) { e, _, err := bootenv.Peek(paths); return e, err },
		Refill: func(s bootenv.Slot) error {
			d, err := bootenv.Open(paths)
			if err != nil {
				return err
			}
			defer d.Close() //nolint:errcheck // Update has synced what it wrote
			_, err = d.Update(func(e *bootenv.Env) error { e.SetGood(s, true); return nil })
			return err
		},
		Reboot: restartMachine, Uptime: sinceBoot, Log: slog.New(slog.NewTextHandler(stderr, nil)),
	}.Run(ctx)
}

// environment returns the partitions of the boot environment. A board that is not recognised has them where images of all boards do.
func environment(cfg config.Config) ([2]string, error) {
	choice, err := board.Library{Dir: cfg.Board.Dir}.Choose(cfg.Board.Name, board.Identify("/"))
	if err != nil || choice.Descriptor == nil || choice.Storage == nil {
		return rauc.Paths([]string{"env-a", "env-b"})
	}
	return rauc.Paths(choice.Storage.Environment)
}

func restartMachine(ctx context.Context, force bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	args := []string{"reboot"}
	if force {
		args = append(args, "--force")
	}
	if said, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil { //nolint:gosec // a fixed command
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}

func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
