package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// shown is what a command has gathered: a document for programs, and how to write it for people.
type shown struct {
	doc  any
	text func(w io.Writer) error
}

// showCmd returns a command that gathers something and shows it, as text or as JSON (-o).
func (a *app) showCmd(use, short string, gather func(ctx context.Context, c *clients) (shown, error)) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			s, err := gather(cmd.Context(), c)
			if err != nil {
				return err
			}
			if format == "json" {
				return writeJSON(a.out, s.doc)
			}
			return s.text(a.out)
		},
	}
	formatFlag(cmd, &format)
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
