package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/skerry/skerry/mappers/pointlist"
)

// deviceCmd has what needs no gateway: the other verbs of `skerryctl device` are for the gateway that the device is connected to.
func (a *app) deviceCmd() *cobra.Command {
	device := &cobra.Command{Use: "device", Short: "Prepare devices (reading, writing and scanning them is done by skerryctl on the gateway)"}
	var i pointlist.Import
	imp := &cobra.Command{
		Use: "import FILE", Short: "Make a DeviceModel and a Device of a point list (CSV) or of Neuron's tags; - is standard input", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := readList(args[0])
			if err != nil {
				return err
			}
			return i.Run(data, a.out, a.err)
		},
	}
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	i.Flags(fs)
	imp.Flags().AddGoFlagSet(fs)
	imp.Flags().StringVarP(&i.Names.Namespace, "namespace", "n", "default", "`namespace` of the manifests")
	device.AddCommand(imp)
	return device
}

func readList(name string) ([]byte, error) {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the operator's own file
		if err != nil {
			return nil, fmt.Errorf("open the list: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, pointlist.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}
