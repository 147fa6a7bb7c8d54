package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/overview"
	"github.com/skerry/skerry/relay/tickets"
)

func (a *app) caCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ca", Short: "See and replace the certificate authority",
		Long: "See and replace the certificate authority. A rotation: `ca rotate`, then wait until `ca status` says that all nodes have\n" +
			"certificates of the new CA (they get one when they renew, within two thirds of a certificate's life), then `ca finish`.",
	}
	cmd.AddCommand(a.caStatusCmd(), a.caRotateCmd(), a.caFinishCmd(), a.caAbortCmd())
	return cmd
}

func (a *app) caStatusCmd() *cobra.Command {
	return a.showCmd("status", "Show the CAs, and how many nodes have certificates of which", func(ctx context.Context, c *clients) (shown, error) {
		o, err := overview.GatherCAs(ctx, c.core)
		if err != nil {
			return shown{}, err
		}
		return shown{doc: o, text: func(w io.Writer) error { return o.Print(w, a.now()) }}, nil
	})
}

func (a *app) caRotateCmd() *cobra.Command {
	var compromised, yes bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Begin to replace the CA: a successor signs from now on, both are trusted",
		Long: "Begin to replace the CA. A successor is made, which the old CA signs, and signs gateways' and relays' certificates from now on.\n" +
			"Both are trusted. Relays follow within seconds, gateways as they renew; none is disturbed. End it with `ca finish`.\n\n" +
			"--compromised is for a CA whose key others may have: the new CA has nothing to do with the old one, at once. Every session\n" +
			"ends, all join tokens are deleted, and every gateway must join anew, because whoever has the key could pose as its relay.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if compromised && !yes {
				return errors.New("--compromised shuts out every gateway until somebody joins it anew: add --yes if that is what you want")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if compromised {
				return a.replaceCA(cmd.Context(), c.core)
			}
			ca, err := enroll.BeginRotation(cmd.Context(), c.core, a.now())
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s signs from now on\n", ca.Name())
			if ca.Orphans() {
				fmt.Fprintln(a.err, "The old CA was made by a release that did not provide for successors: gateways that do not renew before `ca finish` must join anew.")
			}
			fmt.Fprintln(a.err, "Back up Secret skerry-system/skerry-ca. Watch `skerryctl ca status`; when all nodes have renewed: `skerryctl ca finish`. To go back: `skerryctl ca abort`.")
			return nil
		},
	}
	cmd.Flags().BoolVar(&compromised, "compromised", false, "the CA's key may be in other hands: trust nothing that it has signed")
	cmd.Flags().BoolVar(&yes, "yes", false, "with --compromised: every gateway shall join anew")
	return cmd
}

// replaceCA also takes what whoever could read the CA's key could read beside it.
func (a *app) replaceCA(ctx context.Context, c kubernetes.Interface) error {
	ca, err := enroll.ReplaceCA(ctx, c, a.now())
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s signs from now on, and nothing else is trusted\n", ca.Name())
	tokens := enroll.NewTokens(c, a.now)
	list, err := tokens.List(ctx)
	if err != nil {
		return fmt.Errorf("the CA is replaced; its join tokens are left, and worth nothing: %w", err)
	}
	for _, t := range list {
		if err := tokens.Delete(ctx, t.ID); err != nil && !errors.Is(err, enroll.ErrNoToken) {
			return fmt.Errorf("the CA is replaced; its join token %s is left, and worth nothing: %w", t.ID, err)
		}
	}
	if err := tickets.Forget(ctx, c); err != nil {
		return fmt.Errorf("the CA is replaced; the keys of TLS sessions are not: %w: delete the data of Secret %s/%s", err, tickets.Namespace, tickets.Secret)
	}
	fmt.Fprintf(a.err, "%d join tokens were deleted. Back up Secret skerry-system/skerry-ca. Every gateway must join anew: `skerryctl token create --nodes FILE`.\n", len(list))
	return nil
}

func (a *app) caFinishCmd() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "finish",
		Short: "End a rotation: the old CA's key is destroyed, and its certificates can be renewed but open no session",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			o, err := overview.GatherCAs(cmd.Context(), c.core)
			if err != nil {
				return err
			}
			if left := o.Dependent(); len(left) > 0 && !o.Rotating.IsZero() && !force {
				return fmt.Errorf("%d nodes have no certificate of the new CA yet: %s. Wait for them, or --force: their sessions end, and those that are switched on renew and come back within minutes", len(left), overview.Few(left))
			}
			ca, err := enroll.FinishRotation(cmd.Context(), c.core, a.now())
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s signs, and the CA before it is retired\n", ca.Name())
			for _, c := range ca.All() {
				if c.State == enroll.StateTrusted {
					fmt.Fprintf(a.err, "%s is trusted still, because somebody has put it into ca.crt of Secret skerry-system/skerry-ca.\n", c.Name)
				}
			}
			fmt.Fprintln(a.err, "Gateways that were switched off all the time come back by themselves. Back up Secret skerry-system/skerry-ca, and destroy backups of the old one.")
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "do not wait for nodes that depend on the old CA")
	return cmd
}

func (a *app) caAbortCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "abort",
		Short: "Let the old CA sign again; what the new one has signed stays good until `ca finish`",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			ca, err := enroll.AbortRotation(cmd.Context(), c.core, a.now())
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s signs again\n", ca.Name())
			fmt.Fprintln(a.err, "Both CAs are trusted still. When all nodes have renewed (`skerryctl ca status`): `skerryctl ca finish` retires the one that was given up.")
			return nil
		},
	}
}
