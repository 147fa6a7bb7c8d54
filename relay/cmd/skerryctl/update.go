package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry/skerry/firmware/wire"
)

// updateFlags are those of node update.
type updateFlags struct {
	order                wire.UpdateOrder
	cancel, status, wait bool
	timeout              time.Duration
}

func (a *app) nodeUpdateCmd() *cobra.Command {
	var f updateFlags
	cmd := &cobra.Command{
		Use:   "update NAME --bundle URL [--version V]",
		Short: "Install a new system on a gateway; it is tried, and left again if it is not well",
		Long: `Orders a new system for a gateway, in the annotation ` + wire.AnnotationUpdate + ` of its Node. The gateway fetches the bundle whose index (*.skidx)
is at URL, verifies its signature, installs it into the slot that does not run, restarts when its pods and its window allow, and confirms the new system
when it is well, or goes back. A gateway that is not connected begins when it is.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := knownNode(cmd.Context(), c.core, args[0]); err != nil {
				return err
			}
			return a.updateNode(cmd.Context(), c, args[0], f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.order.Bundle, "bundle", "", "`URL` of the bundle's index: https://…"+indexSuffix)
	fs.StringVar(&f.order.Version, "version", "", "the `version` that the bundle has to have")
	fs.BoolVar(&f.order.AllowDowngrade, "allow-downgrade", false, "install a version that is older than the one that runs")
	fs.BoolVar(&f.order.Retry, "retry", false, "install a version that has failed on this gateway before")
	fs.BoolVar(&f.cancel, "cancel", false, "withdraw the order, as long as the gateway was not restarted for it")
	fs.BoolVar(&f.status, "status", false, "show how an update goes, and what has failed before")
	fs.BoolVar(&f.wait, "wait", false, "wait until the update has ended, and tell how it goes")
	fs.DurationVar(&f.timeout, "timeout", time.Hour, "how long to wait at most")
	cmd.MarkFlagsMutuallyExclusive("bundle", "cancel", "status")
	return cmd
}

const indexSuffix = ".skidx" // firmware/update/chunks.IndexSuffix

func (a *app) updateNode(ctx context.Context, c *clients, node string, f updateFlags) error {
	switch {
	case f.status:
		s, err := updateStatus(ctx, c, node)
		if err != nil {
			return err
		}
		a.printUpdate(node, s)
		return nil
	case f.cancel:
		if err := annotate(ctx, c, node, nil); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "the order of node %s is withdrawn\n", node)
		return nil
	case !strings.HasPrefix(f.order.Bundle, "https://") || !strings.HasSuffix(f.order.Bundle, indexSuffix):
		return fmt.Errorf("--bundle %q: the https:// address of an index that ends with %s is needed; make bundle writes it beside the bundle", f.order.Bundle, indexSuffix)
	}
	f.order.ID = strconv.FormatInt(a.now().UnixNano(), 36)
	b, err := json.Marshal(f.order)
	if err != nil {
		return err
	}
	text := string(b)
	if err := annotate(ctx, c, node, &text); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "node %s: update %s is ordered; skerryctl node update %s --status tells how it goes\n", node, f.order.ID, node)
	if f.wait {
		return a.awaitUpdate(ctx, c, node, f)
	}
	return nil
}

// annotate sets the order of a node; nil takes it away.
func annotate(ctx context.Context, c *clients, node string, text *string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{wire.AnnotationUpdate: text}}})
	if err != nil {
		return err
	}
	if _, err := c.core.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("order the update at node %s: %w", node, err)
	}
	return nil
}

func updateStatus(ctx context.Context, c *clients, node string) (wire.UpdateStatus, error) {
	var s wire.UpdateStatus
	n, err := c.core.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return s, err
	}
	text, ok := n.Annotations[wire.AnnotationUpdateStatus]
	if !ok {
		return s, fmt.Errorf("node %s says nothing of updates: its board has no slots, its system was not made by make image, or it has not been connected since", node)
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("annotation %s of node %s: %w", wire.AnnotationUpdateStatus, node, err)
	}
	return s, nil
}

func (a *app) printUpdate(node string, s wire.UpdateStatus) {
	fmt.Fprintf(a.out, "node      %s\nrunning   version %s in slot %s\nupdate    %s\n", node, s.Running, s.Slot, updateLine(s))
	for _, f := range s.Failed {
		fmt.Fprintf(a.out, "failed    %s  %s %s: %s\n", f.At, f.Version, f.Bundle, f.Reason)
	}
}

func updateLine(s wire.UpdateStatus) string {
	line := s.Phase
	if s.Version != "" {
		line += ", version " + s.Version
	}
	if s.Percent > 0 {
		line += fmt.Sprintf(", %d %%", s.Percent)
	}
	if s.Message != "" {
		line += ": " + s.Message
	}
	return line
}

var errUpdateFailed = errors.New("the update was not made")

// awaitUpdate tells each step until the order has ended.
func (a *app) awaitUpdate(ctx context.Context, c *clients, node string, f updateFlags) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	said := ""
	for {
		s, err := updateStatus(ctx, c, node)
		if err == nil && s.Order == f.order.ID {
			if line := updateLine(s); line != said {
				said = line
				fmt.Fprintln(a.out, line)
			}
			if s.Phase == "Idle" {
				if f.order.Version != "" && s.Running != f.order.Version || len(s.Failed) > 0 && strings.HasSuffix(s.Result, s.Failed[len(s.Failed)-1].Reason) {
					return fmt.Errorf("%w: %s", errUpdateFailed, s.Result)
				}
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v the update has not ended (%s); it goes on", f.timeout, said)
		case <-tick.C:
		}
	}
}
