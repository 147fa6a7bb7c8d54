// Command skerryctl is the operator's tool on the side of the cluster: it prepares a cluster, hands out join tokens,
// revokes nodes, replaces the CA, and shows how nodes and devices are. It talks to Kubernetes only, with the operator's own kubeconfig, and
// needs no relay to be up.
//
// On a gateway, skerryd answers to the same name for the verbs that make sense there.
//
// Wiring only: what the verbs do is in relay/setup, relay/enroll and relay/overview. Tests run the commands against
// client-go's fakes.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry/skerry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, connect))
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, dial dialFunc) int {
	a := &app{out: stdout, err: stderr, dial: dial, now: time.Now}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "skerryctl: %s\n", explain(err))
		return 1
	}
	return 0
}

// app is one invocation.
type app struct {
	out, err io.Writer
	dial     dialFunc
	now      func() time.Time

	kubeconfig, context string
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "skerryctl",
		Short:         "Prepare a cluster for Skerry, let gateways join, see how they are",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&a.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default: $KUBECONFIG, then ~/.kube/config")
	root.PersistentFlags().StringVar(&a.context, "context", "", "kubeconfig `context` to use; default: the current one")
	root.AddCommand(a.initCmd(), a.tokenCmd(), a.nodeCmd(), a.caCmd(), a.deviceCmd(), a.statusCmd(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, skerry.Version)
			return err
		},
	})
	return root
}

func (a *app) connect() (*clients, error) { return a.dial(a.kubeconfig, a.context) }
