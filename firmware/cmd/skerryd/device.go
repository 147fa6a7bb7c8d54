package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/devicectl"
	"github.com/skerry/skerry/mappers/all"
	"github.com/skerry/skerry/mappers/device"
)

// deviceVerbs are the verbs of a commissioning engineer. A gateway without a configuration is no obstacle: a line can be scanned before
// anything else is set up.
func deviceVerbs(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	file := config.DefaultPath
	if len(args) > 0 {
		switch name, value, ok := strings.Cut(args[0], "="); {
		case name != "-config" && name != "--config":
		case ok:
			file, args = value, args[1:]
		case len(args) > 1:
			file, args = args[1], args[2:]
		default:
			return fmt.Errorf("-config: a file is needed: %w", errUsage)
		}
	}
	env := devicectl.Env{
		Stdout: stdout, Stderr: stderr, Socket: config.DefaultControlSocket, Terminal: isTerminal(stderr),
		Drivers: func() []device.Driver { return all.Drivers(all.Options{}) },
	}
	cfg, err := config.Load(file)
	switch {
	case err == nil:
		env.Socket, env.Node = cfg.Control.Socket, cfg.Node.Name
	case errors.Is(err, os.ErrNotExist) && file == config.DefaultPath:
	default:
		return err
	}
	return devicectl.Run(ctx, args, env)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
