package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/firmware/config"
)

// bootBackend is what RAUC calls (under the name boot-backend): it reads and sets which slot boots. It works without a configuration file: then the
// board is the one that is recognised.
func bootBackend(_ context.Context, args []string, stdout, _ io.Writer) error {
	name, dir := "", board.DefaultDir
	args, err := withConfig(args, func(cfg config.Config) { name, dir = cfg.Board.Name, cfg.Board.Dir })
	if err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	storage := func() (*board.Storage, error) {
		choice, err := board.Library{Dir: dir}.Choose(name, board.Identify("/"))
		if err != nil {
			return nil, err
		}
		if choice.Storage == nil {
			return nil, fmt.Errorf("the system of board %s is not updated by Skerry", choice.Name)
		}
		return choice.Storage, nil
	}
	return rauc.Backend{
		Cmdline: string(cmdline),
		Open: func() (*bootenv.Disk, error) {
			s, err := storage()
			if err != nil {
				return nil, err
			}
			paths, err := rauc.Paths(s.Environment)
			if err != nil {
				return nil, err
			}
			return bootenv.Open(paths)
		},
		Verify: func(slot bootenv.Slot) error {
			s, err := storage()
			if err != nil {
				return err
			}
			root, boot, err := rauc.SlotPaths(s, slot)
			if err != nil {
				return err
			}
			return rauc.VerifySlot(root, boot)
		},
	}.Run(args, stdout)
}
