package main

import (
	"github.com/spf13/cobra"

	"github.com/skerry/skerry/relay/overview"
)

func (a *app) statusCmd() *cobra.Command {
	var (
		format   string
		problems bool
	)
	cmd := &cobra.Command{
		Use: "status", Short: "Show relays, nodes and devices", Long: "Show warnings, how many relays, nodes and devices are well, and tables of them all: with --problems only of those that are not:\n" +
			"relays that do not run, nodes that are not ready or not connected, devices that are not ready.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			o, err := overview.Gather(cmd.Context(), c.core, c.dyn, a.now())
			if err != nil {
				return err
			}
			if problems {
				o = o.Problems()
			}
			if format == "json" {
				return writeJSON(a.out, o)
			}
			return o.Print(a.out, a.now())
		},
	}
	cmd.Flags().BoolVar(&problems, "problems", false, "list only what is not well")
	formatFlag(cmd, &format)
	return cmd
}
