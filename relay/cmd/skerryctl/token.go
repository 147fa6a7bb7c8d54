package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry/skerry/relay/enroll"
)

func (a *app) tokenCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Create, list and delete join tokens"}
	cmd.AddCommand(a.tokenCreateCmd(), a.tokenListCmd(), a.tokenDeleteCmd())
	return cmd
}

// format is the value of -o.
func formatFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVarP(into, "output", "o", "text", "output `format`: text or json")
}

func checkFormat(f string) error {
	if f != "text" && f != "json" {
		return fmt.Errorf("-o %q: allowed are text and json", f)
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (a *app) tokenCreateCmd() *cobra.Command {
	var (
		node, format string
		ttl          time.Duration
	)
	cmd := &cobra.Command{
		Use:   "create --node NAME",
		Short: "Create a token with which one gateway can join once",
		Long: "Create a join token. It is good for the named node only, until it expires, and for the first key that uses it: the same\n" +
			"gateway may try again, nobody else can. The token is printed on stdout and cannot be shown again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			ca, err := enroll.LoadCA(cmd.Context(), c.core)
			if err != nil {
				return err
			}
			token, info, err := enroll.NewTokens(c.core, a.now).Create(cmd.Context(), ca, node, ttl)
			if err != nil {
				return err
			}
			if format == "json" {
				return writeJSON(a.out, struct {
					enroll.TokenInfo
					Token string `json:"token"`
				}{info, token.String()})
			}
			fmt.Fprintln(a.out, token)
			fmt.Fprintf(a.err, "Token %s lets gateway %q join until %s. On the gateway: skerryd join -token TOKEN\n", info.ID, node, info.Expires.Local().Format(time.RFC1123))
			return nil
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "`name` of the node that the gateway becomes")
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token is valid, at most "+enroll.MaxTTL.String())
	formatFlag(cmd, &format)
	if err := cmd.MarkFlagRequired("node"); err != nil {
		panic(err) // the flag is defined two lines above
	}
	return cmd
}

func (a *app) tokenListCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "list", Short: "List join tokens, without their secrets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			list, err := enroll.NewTokens(c.core, a.now).List(cmd.Context())
			if err != nil {
				return err
			}
			if format == "json" {
				return writeJSON(a.out, append([]enroll.TokenInfo{}, list...))
			}
			t := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', 0)
			fmt.Fprintln(t, "ID\tNODE\tSTATE\tEXPIRES\tUSED")
			for _, i := range list {
				used := "-"
				if !i.BoundAt.IsZero() {
					used = i.BoundAt.Format(time.RFC3339)
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", i.ID, i.Node, i.State(a.now()), i.Expires.Format(time.RFC3339), used)
			}
			return t.Flush()
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

func (a *app) tokenDeleteCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete join tokens; gateways that have joined stay joined",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			for _, id := range ids {
				if err := enroll.NewTokens(c.core, a.now).Delete(cmd.Context(), id); err != nil {
					return fmt.Errorf("%w (see `skerryctl token list`)", err)
				}
				fmt.Fprintf(a.out, "deleted %s\n", id)
			}
			return nil
		},
	}
}
