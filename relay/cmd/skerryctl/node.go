package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/overview"
)

func (a *app) nodeCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Update, revoke and restore nodes, and find out what is wrong with them"}
	cmd.AddCommand(a.nodeUpdateCmd(), a.nodeRevokeCmd(), a.nodeRestoreCmd(), a.nodeRevokedCmd(), a.nodePruneCmd(), a.nodeDiagnoseCmd())
	return cmd
}

func (a *app) nodeRevokeCmd() *cobra.Command {
	var (
		reason string
		force  bool
	)
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Shut a gateway out for good: its sessions end, its certificate and its join tokens are worth nothing any more",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if !force {
				if err := knownNode(cmd.Context(), c.core, args[0]); err != nil {
					return err
				}
			}
			if err := enroll.Revoke(cmd.Context(), c.core, args[0], reason, a.now()); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "node %s is revoked\n", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "by the operator", "why, for whoever reads the list")
	cmd.Flags().BoolVar(&force, "force", false, "revoke a name that the cluster does not know")
	return cmd
}

// knownNode fails if nothing in the cluster has the node's name, and then names those that are like it: a typing error in a
// revocation leaves a stolen gateway connected.
func knownNode(ctx context.Context, c kubernetes.Interface, name string) error {
	_, err := c.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err == nil || !apierrors.IsNotFound(err) {
		return err
	}
	tokens, err := enroll.NewTokens(c, nil).List(ctx) // a gateway that joins is no Node before its first report
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, t := range tokens {
		known[t.Node] = true
	}
	revoked, err := enroll.ListRevoked(ctx, c)
	if err != nil {
		return err
	}
	for node := range revoked {
		known[node] = true
	}
	if known[name] {
		return nil
	}
	nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: overview.AgentLabel + "=true"})
	if err != nil {
		return fmt.Errorf("list Nodes: %w", err)
	}
	for i := range nodes.Items {
		known[nodes.Items[i].Name] = true
	}
	text := ""
	if near := near(name, slices.Collect(maps.Keys(known))); len(near) > 0 {
		text = ": did you mean " + strings.Join(near, ", ") + "?"
	}
	return fmt.Errorf("no node %q is known%s (--force revokes it all the same)", name, text)
}

// near returns at most three of names that differ from name in a letter or two, or contain it, the nearest first.
func near(name string, names []string) []string {
	type candidate struct {
		name string
		far  int
	}
	var found []candidate
	for _, n := range names {
		d := distance(name, n)
		if d > 2 && len(name) >= 3 && strings.Contains(n, name) {
			d = 3
		}
		if d <= 3 && d < len(name) {
			found = append(found, candidate{n, d})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, f := range found[:min(3, len(found))] {
		out = append(out, f.name)
	}
	return out
}

// distance is Levenshtein's, in bytes: names of nodes are ASCII.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

func (a *app) nodeRestoreCmd() *cobra.Command {
	var trust bool
	cmd := &cobra.Command{
		Use:   "restore NAME",
		Short: "Let a revoked node join again, with a new token",
		Long: "Let a revoked node join again, with a new token and therefore with a new key. Certificates from before the revocation stay\n" +
			"refused. If the revocation was a mistake, and nobody else can have the gateway's key, --trust-old-key makes them good again.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := enroll.Restore(cmd.Context(), c.core, args[0], trust, a.now()); err != nil {
				if errors.Is(err, enroll.ErrNotRevoked) {
					return fmt.Errorf("%w (see `skerryctl node revoked`)", err)
				}
				return err
			}
			if trust {
				fmt.Fprintf(a.out, "node %s may connect again, with the key that it has\n", args[0])
			} else {
				fmt.Fprintf(a.out, "node %s may join again: skerryctl token create --node %s\n", args[0], args[0])
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&trust, "trust-old-key", false, "the gateway's key is in nobody else's hands: let it connect as before")
	return cmd
}

func (a *app) nodeRevokedCmd() *cobra.Command {
	return a.showCmd("revoked", "List revoked nodes, and those that were restored", func(ctx context.Context, c *clients) (shown, error) {
		list, err := enroll.ListRevoked(ctx, c.core)
		if err != nil {
			return shown{}, err
		}
		return shown{doc: list, text: func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
			fmt.Fprintln(t, "NODE\tREVOKED\tRESTORED\tREASON")
			for _, node := range slices.Sorted(maps.Keys(list)) {
				r := list[node]
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", node, stamp(r.Revoked), stamp(r.Restored), r.Reason)
			}
			return t.Flush()
		}}, nil
	})
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func (a *app) nodePruneCmd() *cobra.Command {
	var (
		age time.Duration
		yes bool
	)
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Forget old revocations, whose certificates cannot be renewed any more",
		Long: "Forget revocations that are older than --older-than. The default is the time after which no certificate from before a\n" +
			"revocation can be renewed any more, however long certificates live (enroll.certificateLifetime of the relays, a year at most). With less,\n" +
			"gateways that were shut out can renew their certificates and connect again: that wants --yes.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if age < enroll.PruneAfter && !yes {
				return fmt.Errorf("with --older-than less than %d days, gateways that were shut out may connect again with the certificates that they have: add --yes if that is what you want", enroll.PruneAfter/(24*time.Hour))
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			gone, err := enroll.PruneRevoked(cmd.Context(), c.core, age, a.now())
			if err != nil {
				return err
			}
			for _, node := range slices.Sorted(slices.Values(gone)) {
				fmt.Fprintf(a.out, "forgot %s\n", node)
			}
			fmt.Fprintf(a.err, "%d revocations were forgotten.\n", len(gone))
			return nil
		},
	}
	cmd.Flags().DurationVar(&age, "older-than", enroll.PruneAfter, "age of the revocations to forget")
	cmd.Flags().BoolVar(&yes, "yes", false, "with a shorter --older-than: let those gateways in again")
	return cmd
}
