package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/skerry/skerry/relay/setup"
)

func (a *app) initCmd() *cobra.Command {
	var o setup.Options
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Prepare the cluster: namespace, CRDs, certificate authority, the relay's rights",
		Long: "Prepare the cluster for Skerry. What exists already is compared, and changed only where it differs; an existing\n" +
			"certificate authority is kept. Run it again after each upgrade of skerryctl.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			err = setup.Apply(cmd.Context(), c.core, c.ext, o, func(s setup.Step) {
				fmt.Fprintf(a.out, "%-9s  %s %s\n", s.Outcome, s.Kind, s.Name)
			})
			if err != nil {
				return fmt.Errorf("prepare the cluster: %w", err)
			}
			fmt.Fprintln(a.err, "The cluster is ready. Next: start skerry-relay, then `skerryctl token create --node NAME` for each gateway.")
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.NewRevocationList, "new-revocation-list", false, "make an empty list of revoked nodes if it was deleted: whoever was on it may connect again")
	cmd.Flags().BoolVar(&o.NewCA, "new-ca", false, "make another certificate authority if it was deleted and no backup is left: every gateway must join anew")
	return cmd
}
