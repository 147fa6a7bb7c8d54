package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/firmware/config"
)

// bootBackend is what RAUC calls (under the name boot-backend): it reads and sets which slot boots. It works without a configuration file, and with one that is
// refused: then the board is the one that is recognised, with the partitions of an image where the board's file has none. A misspelt key must not keep a gateway
// from being updated, nor from going back.
func bootBackend(_ context.Context, args []string, stdout, stderr io.Writer) error {
	name, dir := "", board.DefaultDir
	file, args, err := configFlag(args)
	if err != nil {
		return err
	}
	broken := false
	switch cfg, err := config.Load(file); {
	case err == nil:
		name, dir = cfg.Board.Name, cfg.Board.Dir
	case !errors.Is(err, os.ErrNotExist):
		broken = true
		fmt.Fprintf(stderr, "the configuration is not used, and the board is the one that is recognised: %v\n", err)
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
		switch {
		case choice.Storage == nil && broken: // the configuration may have named the board
			return imageStorage(), nil
		case choice.Storage == nil:
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

// imageStorage are the partitions that images of all boards have.
func imageStorage() *board.Storage {
	return &board.Storage{Environment: []string{"env-a", "env-b"}, Slots: []board.Slot{{Name: "A", Root: "root-a", Boot: "boot-a"}, {Name: "B", Root: "root-b", Boot: "boot-b"}}}
}
