package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/skerry/skerry/relay/overview"
)

func (a *app) statusCmd() *cobra.Command {
	var problems bool
	cmd := a.showCmd("status", "Show relays, nodes and devices", func(ctx context.Context, c *clients) (shown, error) {
		o, err := overview.Gather(ctx, c.core, c.dyn, a.now())
		if err != nil {
			return shown{}, err
		}
		if problems {
			o = o.Problems()
		}
		return shown{doc: o, text: func(w io.Writer) error { return o.Print(w, a.now()) }}, nil
	})
	cmd.Long = "Show warnings, how many relays, nodes and devices are well, and tables of them all: with --problems only of those that are not:\n" +
		"relays that do not run, nodes that are not ready or not connected, devices that are not ready."
	cmd.Flags().BoolVar(&problems, "problems", false, "list only what is not well")
	return cmd
}
