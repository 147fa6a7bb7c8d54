package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/agent"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/devicectl"
	"github.com/skerry/skerry/mappers/all"
	"github.com/skerry/skerry/mappers/device"
)

// deviceVerbs are the verbs of a commissioning engineer. A gateway without a configuration is no obstacle: a line can be scanned before
// anything else is set up.
func deviceVerbs(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	env := devicectl.Env{
		Stdout: stdout, Stderr: stderr, Socket: config.DefaultControlSocket, Terminal: isTerminal(stderr), Width: width(stdout),
		Drivers: func() []device.Driver { return all.Drivers(all.Options{}) },
	}
	lib, name := board.Library{Dir: board.DefaultDir}, ""
	args, err := withConfig(args, func(cfg config.Config) {
		env.Socket, env.Node, lib.Dir, name = cfg.Control.Socket, cfg.Node.Name, cfg.Board.Dir, cfg.Board.Name
	})
	if err != nil {
		return err
	}
	if this, err := lib.Choose(name, board.Identify("/")); err == nil { // else ports have no names here; skerryctl board tells
		env.Ports = agent.DevicePorts(this.Descriptor, "/")
	}
	return devicectl.Run(ctx, args, env)
}

// configFlag takes -config FILE off the arguments.
func configFlag(args []string) (file string, rest []string, err error) {
	if len(args) > 0 {
		switch name, value, ok := strings.Cut(args[0], "="); {
		case name != "-config" && name != "--config":
		case ok:
			return value, args[1:], nil
		case len(args) > 1:
			return args[1], args[2:], nil
		default:
			return "", nil, fmt.Errorf("-config: a file is needed: %w", errUsage)
		}
	}
	return config.DefaultPath, args, nil
}

// withConfig takes -config FILE off the arguments and gives the configuration to use. Without the flag it need not exist.
func withConfig(args []string, use func(config.Config)) (rest []string, err error) {
	file, args, err := configFlag(args)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(file)
	switch {
	case err == nil:
		use(cfg)
	case errors.Is(err, os.ErrNotExist) && file == config.DefaultPath:
	default:
		return nil, err
	}
	return args, nil
}

// width is how many columns a terminal has; 0 if it is none.
func width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
