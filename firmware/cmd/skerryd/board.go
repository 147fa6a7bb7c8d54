package main

import (
	"context"
	"io"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/boardctl"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/devicectl"
)

// boardVerbs are the verbs of whoever puts a board into operation, before there is a configuration or after.
func boardVerbs(_ context.Context, args []string, stdout, stderr io.Writer) error {
	env := boardctl.Env{Stdout: stdout, Stderr: stderr, Root: "/", Dir: board.DefaultDir}
	args, err := withConfig(args, func(cfg config.Config) { env.Name, env.Dir = cfg.Board.Name, cfg.Board.Dir })
	if err != nil {
		return err
	}
	status, err := boardctl.Run(args, env)
	switch {
	case err != nil:
		return &devicectl.ExitError{Status: status, Text: err.Error()}
	case status != boardctl.Good:
		return &devicectl.ExitError{Status: status}
	}
	return nil
}
