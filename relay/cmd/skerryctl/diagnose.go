package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// diagnoseTime is for a bundle to be made by a gateway and to come over a slow line.
const diagnoseTime = 2 * time.Minute

// maxBundle is more than a gateway sends; what is longer is none.
const maxBundle = 32 << 20

func (a *app) nodeDiagnoseCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "diagnose NAME",
		Short: "Fetch a diagnostic bundle from a gateway that is connected",
		Long: "Fetch a diagnostic bundle from a gateway that is connected: how its agent, its disks, its network and its board are, why it was started, what was left\n" +
			"of crashes, and the newest lines of its logs, as a .tar.gz of at most a few megabytes. It holds no keys, tokens, Secrets or ConfigMaps.\n\n" +
			"It comes through the API server's node proxy and takes the right to get nodes/proxy. On the gateway itself, connected or not: skerryctl diagnose.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if file == "" {
				file = fmt.Sprintf("skerry-diagnose-%s-%s.tar.gz", args[0], a.now().UTC().Format("20060102T150405Z"))
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), diagnoseTime)
			defer cancel()
			return a.fetchBundle(ctx, c.slow, args[0], file)
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "`file` to write; - is standard output. Default: skerry-diagnose-NAME-TIME.tar.gz in this folder")
	return cmd
}

// fetchBundle writes the bundle of a node into a file, all of it or none.
func (a *app) fetchBundle(ctx context.Context, api rest.Interface, node, file string) (err error) {
	from, err := api.Get().AbsPath("/api/v1/nodes", node, "proxy", "diagnose").Stream(ctx)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("node %q has no diagnostic bundle: it is not in this cluster, or its agent is older than this: %w", node, err)
	case apierrors.IsServiceUnavailable(err):
		return fmt.Errorf("node %q cannot be asked now: if it is not connected (skerryctl status), run skerryctl diagnose on the gateway: %w", node, err)
	case err != nil:
		return fmt.Errorf("ask node %q for its diagnostic bundle: %w", node, err)
	}
	defer from.Close() //nolint:errcheck // it was read
	bundle, err := io.ReadAll(io.LimitReader(from, maxBundle+1))
	switch {
	case err != nil:
		return fmt.Errorf("the bundle of node %q was cut off after %d bytes, and nothing was written; try again: %w", node, len(bundle), err)
	case len(bundle) > maxBundle:
		return fmt.Errorf("what node %q sends is larger than %d MiB and no bundle: nothing was written", node, maxBundle>>20)
	case !bytes.HasPrefix(bundle, []byte{0x1f, 0x8b}): // RFC 1952, 2.3.1
		return fmt.Errorf("what node %q sends is no .tar.gz: nothing was written", node)
	}
	if file == "-" {
		_, err = a.out.Write(bundle)
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the operator's own
	if err != nil {
		return err
	}
	_, err = f.Write(bundle)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	fmt.Fprintf(a.out, "wrote %s (%d KiB); its summary.txt says what could not be collected\n", file, len(bundle)>>10)
	return nil
}
