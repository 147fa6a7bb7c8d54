package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/skerry/skerry/relay/enroll"
)

func (a *app) nodeCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Revoke and restore nodes"}
	var reason string
	revoke := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Shut a gateway out: its certificate is no longer accepted and it cannot join",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := enroll.Revoke(cmd.Context(), c.core, args[0], reason, a.now()); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "node %s is revoked\n", args[0])
			return nil
		},
	}
	revoke.Flags().StringVar(&reason, "reason", "by the operator", "why, for whoever reads the list")
	restore := &cobra.Command{
		Use:   "restore NAME",
		Short: "Take a node off the list of revoked nodes",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := enroll.Restore(cmd.Context(), c.core, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "node %s may connect again\n", args[0])
			return nil
		},
	}
	cmd.AddCommand(revoke, restore)
	return cmd
}
