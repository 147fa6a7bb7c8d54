package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"

	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/provision"
)

// provisionGateway waits for a provisioning file and joins with it: what skerry-provision.service of an image calls.
func provisionGateway(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs, _ := flags("provision", stderr)
	if err := parse(fs, args); err != nil {
		return err
	}
	return provision.Run(ctx, provision.Options{
		Etc: "/etc", Media: func() []provision.Medium { return provision.FindMedia("/sys", "/dev") }, Console: stdout,
		Enroll: provision.Join, Settle: provision.Settle, Log: logger(config.Defaults(), stderr),
	})
}

// factoryReset makes the gateway as it came out of the box, at its next start.
func factoryReset(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs, load := flags("factory-reset", stderr)
	all := fs.Bool("all", false, "remove everything: the gateway has to join anew")
	keep := fs.Bool("keep-identity", false, "remove everything but key, certificate, /etc/skerry, host name, network settings and time servers: it stays the node that it is")
	reboot := fs.Bool("reboot", false, "restart the gateway at once")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *all == *keep {
		return fmt.Errorf("give either -all or -keep-identity: %w", errUsage)
	}
	cfg, err := load()
	if err != nil {
		cfg = config.Defaults() // a broken configuration is a reason to reset
	}
	if err := provision.RequestReset("/", cfg.DataDir, *keep); err != nil {
		return err
	}
	if !*reboot {
		fmt.Fprintln(stdout, "the gateway is reset when it starts the next time: systemctl reboot")
		return nil
	}
	fmt.Fprintln(stdout, "the gateway restarts, and is reset")
	if out, err := exec.CommandContext(ctx, "systemctl", "reboot").CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl reboot: %w: %s", err, out)
	}
	return nil
}
