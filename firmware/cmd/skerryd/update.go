package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/agent"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/health"
	"github.com/skerry/skerry/firmware/update"
)

const updateUsage = `usage: skerryd update VERB

  status                       how an update goes, and what has failed before
  install FILE                 install the bundle FILE (*.raucb), from a USB stick for example
    -allow-downgrade           … although it is older than what runs
    -retry                     … although it has failed on this gateway before
  cancel                       withdraw what install has ordered, as long as the machine was not restarted for it
`

func updateVerbs(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg := config.Defaults()
	args, err := withConfig(args, func(c config.Config) { cfg = c })
	if err != nil {
		return err
	}
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch {
	case verb == "status" && len(args) == 1:
		return updateStatus(ctx, cfg, stdout)
	case verb == "install":
		return updateInstall(args[1:], cfg, stdout, stderr)
	case verb == "cancel" && len(args) == 1:
		if err := update.Withdraw(agent.UpdatesDir(cfg)); errors.Is(err, fs.ErrNotExist) {
			return errors.New("nothing was ordered on this gateway (what the cloud wants is withdrawn with skerryctl node update NODE --cancel)")
		} else if err != nil {
			return err
		}
		fmt.Fprintln(stdout, "withdrawn")
		return nil
	case verb == "-h" || verb == "--help" || verb == "help":
		fmt.Fprint(stdout, updateUsage)
		return nil
	}
	return fmt.Errorf("update %s: allowed are status, install FILE and cancel: %w", strings.Join(args, " "), errUsage)
}

// updateInstall leaves an order for the agent, which does it like one of the cloud.
func updateInstall(args []string, cfg config.Config, stdout, stderr io.Writer) error {
	fs, _ := flags("update install", stderr)
	o := update.Order{ID: "local-" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	fs.BoolVar(&o.AllowDowngrade, "allow-downgrade", false, "install a version that is older than the one that runs")
	fs.BoolVar(&o.Retry, "retry", false, "install a version that has failed on this gateway before")
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	if fs.NArg() != 1 {
		return fmt.Errorf("update install: the file of one bundle is needed: %w", errUsage)
	}
	if !cfg.Update.Enabled {
		return errors.New("update.enabled is false in skerryd.yaml: the agent takes no updates, from sticks neither. Set it to true and restart the agent")
	}
	path, err := filepath.Abs(fs.Arg(0))
	if err != nil {
		return err
	}
	if st, err := os.Stat(path); err != nil {
		return err
	} else if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", path)
	}
	o.Bundle = path
	if err := update.Place(agent.UpdatesDir(cfg), o); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s is copied, checked and installed by the agent within the next minutes, and the gateway restarts then.\nLeave the stick in until `skerryd update status` no longer says Downloading.\n", path)
	return nil
}

func updateStatus(ctx context.Context, cfg config.Config, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := health.Fetch(ctx, cfg.Socket)
	if err != nil {
		return err
	}
	var s agent.Status
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("the agent on %s answers with something else than a status: %w", cfg.Socket, err)
	}
	if s.Update == nil {
		return fmt.Errorf("this gateway is not updated by Skerry: %s", s.NoUpdates)
	}
	u := s.Update
	if s.NoUpdates != "" {
		fmt.Fprintf(stdout, "orders    none are taken: %s\n", s.NoUpdates)
	}
	fmt.Fprintf(stdout, "running   version %s in slot %s\nupdate    %s", u.Running, u.Slot, u.Phase)
	if u.Version != "" {
		fmt.Fprintf(stdout, ", version %s", u.Version)
	}
	if u.Percent > 0 {
		fmt.Fprintf(stdout, ", %d %%", u.Percent)
	}
	fmt.Fprintln(stdout)
	if u.Message != "" {
		fmt.Fprintf(stdout, "          %s\n", u.Message)
	}
	for _, f := range u.Failed {
		fmt.Fprintf(stdout, "failed    %s  %s %s: %s\n", f.At.Format(time.DateTime), f.Version, f.Bundle, f.Reason)
	}
	return nil
}
