package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/enroll"
)

func (a *app) tokenCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Create, list and revoke join tokens"}
	cmd.AddCommand(a.tokenCreateCmd(), a.tokenListCmd(), a.tokenRevokeCmd(), a.tokenPruneCmd())
	return cmd
}

// newTokens is what the flags of token create ask for.
type newTokens struct {
	node, file, prefix string
	count              int
	ttl                time.Duration
	format             string
}

// names returns the nodes to make tokens for; many says that it is one line for each.
func (n newTokens) names(stdin io.Reader) (names []string, many bool, err error) {
	given := 0
	for _, is := range []bool{n.node != "", n.file != "", n.prefix != ""} {
		if is {
			given++
		}
	}
	if given != 1 || (n.prefix != "") != (n.count != 0) {
		return nil, false, errors.New("say which nodes the tokens are for: --node NAME, or --nodes FILE, or --count N with --prefix TEXT")
	}
	switch {
	case n.node != "":
		return []string{n.node}, false, nil
	case n.file != "":
		names, err = readNames(n.file, stdin)
		return names, true, err
	}
	if n.count < 1 || n.count > enroll.MaxBatch {
		return nil, true, fmt.Errorf("--count %d: allowed are 1 to %d", n.count, enroll.MaxBatch)
	}
	for i := range n.count {
		names = append(names, fmt.Sprintf("%s%0*d", n.prefix, len(strconv.Itoa(n.count)), i+1))
	}
	return names, true, nil
}

// readNames reads one name a line; empty lines and those that begin with # are left out.
func readNames(file string, stdin io.Reader) ([]string, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("the names of nodes: %w", err)
		}
		defer f.Close()
		in = f
	}
	const most = 1 << 20
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, fmt.Errorf("the names of nodes in %s: %w", file, err)
	}
	if len(b) > most {
		return nil, fmt.Errorf("the names of nodes in %s: more than %d bytes", file, most)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there are no names of nodes in %s: write one a line", file)
	}
	return names, nil
}

func (a *app) tokenCreateCmd() *cobra.Command {
	var n newTokens
	cmd := &cobra.Command{
		Use:   "create (--node NAME | --nodes FILE | --count N --prefix TEXT)",
		Short: "Create tokens with which one gateway each can join once",
		Long: "Create join tokens. Each is good for the named node only, until it expires, and for the first key that uses it: the same\n" +
			"gateway may try again, nobody else can. Tokens are printed on stdout and cannot be shown again: with --node the token alone,\n" +
			"otherwise a line for each with the node's name, a tab, and the token; with -o json objects. Tokens that expired two weeks ago\n" +
			"are deleted meanwhile.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.createTokens(cmd, n) },
	}
	cmd.Flags().StringVar(&n.node, "node", "", "`name` of the node that the gateway becomes")
	cmd.Flags().StringVar(&n.file, "nodes", "", "`file` with the names of nodes, one a line; - is stdin")
	cmd.Flags().IntVar(&n.count, "count", 0, "how many tokens, for nodes PREFIX1 to PREFIXn, with as many digits as n has")
	cmd.Flags().StringVar(&n.prefix, "prefix", "", "what the names of --count begin with")
	cmd.Flags().DurationVar(&n.ttl, "ttl", 24*time.Hour, "how long the tokens are valid, at most "+enroll.MaxTTL.String())
	formatFlag(cmd, &n.format)
	return cmd
}

// created is a token as -o json prints it.
type created struct {
	enroll.TokenInfo
	Token string `json:"token"`
}

func (a *app) createTokens(cmd *cobra.Command, n newTokens) error {
	if err := checkFormat(n.format); err != nil {
		return err
	}
	names, many, err := n.names(cmd.InOrStdin())
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	ca, err := enroll.LoadCA(ctx, c.core)
	if err != nil {
		return err
	}
	tokens := enroll.NewTokens(c.core, a.now)
	if _, err := tokens.Prune(ctx, enroll.KeepExpired); err != nil {
		fmt.Fprintf(a.err, "Tokens that have expired could not be deleted: %v\n", err)
	}
	var list []created
	err = tokens.CreateAll(ctx, ca, names, n.ttl, func(t join.Token, info enroll.TokenInfo) error {
		list = append(list, created{info, t.String()})
		switch {
		case n.format == "json":
			return nil
		case many: // at once: what was made before a failure is good
			_, err := fmt.Fprintf(a.out, "%s\t%s\n", info.Node, t)
			return err
		}
		_, err := fmt.Fprintln(a.out, t)
		return err
	})
	switch {
	case n.format == "json" && many:
		err = errors.Join(err, writeJSON(a.out, append([]created{}, list...)))
	case n.format == "json" && len(list) == 1:
		err = errors.Join(err, writeJSON(a.out, list[0]))
	}
	if err != nil || n.format == "json" {
		return err
	}
	if until := list[0].Expires.Local().Format(time.RFC1123); many {
		fmt.Fprintf(a.err, "%d tokens, valid until %s. On each gateway: skerryd join -token TOKEN\n", len(list), until)
	} else {
		fmt.Fprintf(a.err, "Token %s lets gateway %q join until %s. On the gateway: skerryd join -token TOKEN\n", list[0].ID, list[0].Node, until)
	}
	return nil
}

func (a *app) tokenListCmd() *cobra.Command {
	return a.showCmd("list", "List join tokens, without their secrets", func(ctx context.Context, c *clients) (shown, error) {
		list, err := enroll.NewTokens(c.core, a.now).List(ctx)
		if err != nil {
			return shown{}, err
		}
		type listed struct {
			enroll.TokenInfo
			State string `json:"state"`
		}
		doc := []listed{}
		for _, i := range list {
			doc = append(doc, listed{i, i.State(a.now())})
		}
		return shown{doc: doc, text: func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
			fmt.Fprintln(t, "ID\tNODE\tSTATE\tEXPIRES\tUSED\tKEY")
			for _, i := range doc {
				key := "-"
				if len(i.BoundTo) >= 12 {
					key = i.BoundTo[:12]
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", i.ID, i.Node, i.State, stamp(i.Expires), stamp(i.BoundAt), key)
			}
			return t.Flush()
		}}, nil
	})
}

func (a *app) tokenRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID...",
		Aliases: []string{"delete"},
		Short:   "Revoke join tokens; gateways that have joined stay joined",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			for _, id := range ids {
				if err := enroll.NewTokens(c.core, a.now).Delete(cmd.Context(), id); err != nil {
					return fmt.Errorf("%w (see `skerryctl token list`)", err)
				}
				fmt.Fprintf(a.out, "revoked %s\n", id)
			}
			return nil
		},
	}
}

func (a *app) tokenPruneCmd() *cobra.Command {
	var age time.Duration
	cmd := &cobra.Command{
		Use: "prune", Short: "Delete join tokens that have expired", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			n, err := enroll.NewTokens(c.core, a.now).Prune(cmd.Context(), age)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%d tokens deleted\n", n)
			return nil
		},
	}
	cmd.Flags().DurationVar(&age, "expired-for", 0, "only those that expired so long ago")
	return cmd
}
