package main

import (
	"github.com/spf13/cobra"

	"github.com/skerry/skerry/relay/overview"
)

func (a *app) statusCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "status", Short: "Show relays, nodes and devices", Args: cobra.NoArgs,
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
			if format == "json" {
				return writeJSON(a.out, o)
			}
			return o.Print(a.out, a.now())
		},
	}
	formatFlag(cmd, &format)
	return cmd
}
