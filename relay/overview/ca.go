package overview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/enroll"
)

// CAs says which CAs there are, and which nodes' certificates are theirs.
type CAs struct {
	Rotating    time.Time   `json:"rotating,omitzero"` // since when a rotation is under way
	Authorities []Authority `json:"authorities"`       // the one that signs first
	// Unknown are nodes that have not said whose their certificate is: their agents are older than this, or have not been connected.
	Unknown []string `json:"unknown,omitempty"`
}

// Authority is one CA.
type Authority struct {
	enroll.CAInfo
	Nodes []string `json:"nodes"` // that have a certificate of it
}

// GatherCAs reads the cluster. Nodes say what they have in annotations, as their agents reported last; revoked ones do not count.
func GatherCAs(ctx context.Context, core kubernetes.Interface) (*CAs, error) {
	ca, err := enroll.LoadCA(ctx, core)
	if err != nil {
		return nil, err
	}
	revoked, err := enroll.ListRevoked(ctx, core)
	if err != nil && !errors.Is(err, enroll.ErrNoRevoked) {
		return nil, err
	}
	nodes, err := core.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: AgentLabel + "=true"})
	if err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	out := &CAs{Rotating: ca.Rotating()}
	at := map[string]int{}
	for _, info := range ca.All() {
		at[info.Name] = len(out.Authorities)
		out.Authorities = append(out.Authorities, Authority{CAInfo: info, Nodes: []string{}})
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		if r, ok := revoked[n.Name]; ok && r.Restored.IsZero() {
			continue
		}
		if k, ok := at[issuerOf(n)]; ok {
			out.Authorities[k].Nodes = append(out.Authorities[k].Nodes, n.Name)
		} else {
			out.Unknown = append(out.Unknown, n.Name)
		}
	}
	for _, a := range out.Authorities {
		slices.Sort(a.Nodes)
	}
	slices.Sort(out.Unknown)
	return out, nil
}

func issuerOf(n *corev1.Node) string { return n.Annotations[join.AnnotationCA] }

// Dependent returns the nodes that have no certificate of the CA that signs, as far as is known.
func (c *CAs) Dependent() []string {
	out := slices.Clone(c.Unknown)
	for _, a := range c.Authorities {
		if a.State != enroll.StateSigning {
			out = append(out, a.Nodes...)
		}
	}
	slices.Sort(out)
	return out
}

// Few names some of many nodes, for an error or a line of a table.
func Few(nodes []string) string {
	const some = 10
	if len(nodes) <= some {
		return strings.Join(nodes, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(nodes[:some], ", "), len(nodes)-some)
}

// Print writes a table for a terminal.
func (c *CAs) Print(w io.Writer, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "CA\tSTATE\tENDS\tIN\tNODES")
	for _, a := range c.Authorities {
		fmt.Fprintf(t, "%s\t%s\t%s\t%dd\t%d\n", a.Name, a.State, a.NotAfter.UTC().Format(time.DateOnly), int(a.NotAfter.Sub(now)/(24*time.Hour)), len(a.Nodes))
	}
	if len(c.Unknown) > 0 {
		fmt.Fprintf(t, "unknown\t-\t-\t-\t%d\n", len(c.Unknown))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if c.Rotating.IsZero() {
		return nil
	}
	fmt.Fprintf(w, "\nA rotation is under way since %s.\n", c.Rotating.UTC().Format(time.RFC3339))
	if left := c.Dependent(); len(left) > 0 {
		_, err := fmt.Fprintf(w, "%d nodes have no certificate of the new CA yet, they get one as they renew: %s\n", len(left), Few(left))
		return err
	}
	_, err := fmt.Fprintln(w, "All nodes have certificates of the CA that signs: skerryctl ca finish")
	return err
}

// warnings are about what needs an operator before gateways notice.
func warnings(ctx context.Context, core kubernetes.Interface, now time.Time) ([]string, error) {
	var out []string
	ca, err := enroll.LoadCA(ctx, core)
	switch {
	case err != nil:
		out = append(out, err.Error())
	case ca.Left(now) < 0:
		out = append(out, fmt.Sprintf("%s has ended; gateways cannot connect: skerryctl ca rotate --compromised, and let every gateway join anew", ca.Name()))
	case ca.Left(now) < enroll.CAWarning:
		out = append(out, fmt.Sprintf("%s ends in %d days: skerryctl ca rotate", ca.Name(), int(ca.Left(now)/(24*time.Hour))))
	}
	if err == nil && !ca.Rotating().IsZero() {
		out = append(out, fmt.Sprintf("a rotation of the CA is under way since %s: see skerryctl ca status", ca.Rotating().UTC().Format(time.RFC3339)))
	}
	if _, err := enroll.ListRevoked(ctx, core); errors.Is(err, enroll.ErrNoRevoked) {
		out = append(out, err.Error()+"; relays that run go on refusing who was on it, and none that starts is ready")
	} else if err != nil {
		return nil, err
	}
	return out, nil
}
