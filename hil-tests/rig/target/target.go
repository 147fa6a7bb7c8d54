package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/skerry/skerry/hil-tests/rig/process"

	"github.com/skerry/skerry/board/strict"
)

// Target is a gateway. A new one is switched off (qemu), or as it was (bench).
type Target interface {
	// Rig is what Open was given.
	Rig() *Rig
	// Flash writes the image to the gateway's disk. A machine must be switched off; whether a board must be is its command's matter.
	Flash(ctx context.Context, image string) error
	// On switches the power on. What is on stays on.
	On(ctx context.Context) error
	// Off switches the power off after the disk has what was written; the system is not asked.
	Off(ctx context.Context) error
	// Cut takes the power away this very moment.
	Cut(ctx context.Context) error
	// Reset presses the reset button.
	Reset(ctx context.Context) error
	// Console is the console; it stays the same while the gateway is switched off and on.
	Console() *Console
	// Exec runs shell text on the gateway and waits until ctx ends for it. A status other than 0 is no error.
	Exec(ctx context.Context, command string) (Result, error)
	// Reach makes a TCP port of this computer's loopback reachable and returns host:port where the gateway finds it. qemu: before On.
	Reach(ctx context.Context, address string) (string, error)
	// Forward returns host:port on this computer that leads to a TCP port of the gateway.
	Forward(ctx context.Context, port int) (string, error)
	// Link connects or cuts the gateway's network.
	Link(ctx context.Context, up bool) error
	// Line returns where a simulator of kind modbus-rtu has to make its pseudo-terminal (a link to it) before On, and the gateway's port.
	Line(simulator string) (path, port string, err error)
	// InsertStick plugs in a USB stick with the content of a file, which the gateway may change; RemoveStick pulls it out.
	InsertStick(ctx context.Context, image string) error
	RemoveStick(ctx context.Context) error
	// Keep copies what is known of the gateway into a folder.
	Keep(ctx context.Context, dir string) error
	// Close switches a machine off and lets go of everything; a board stays as it is.
	Close() error
}

// ErrUnsupported is wrapped by what a rig cannot do.
var ErrUnsupported = errors.New("this rig cannot do that")

// Options configure Open.
type Options struct {
	Dir string // transcripts, disk and sockets; it must exist
	Say func(format string, args ...any)
}

// Result is what a command did.
type Result struct {
	Output string // both outputs
	Status int
}

// Open prepares a target. The caller closes it.
func Open(ctx context.Context, rig *Rig, o Options) (Target, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("folder of %s: %w", rig.Name, err)
	}
	o.Dir = dir
	if rig.Adapter == AdapterQEMU {
		return openMachine(rig, o)
	}
	return openBench(ctx, rig, o)
}

// Run is Exec that takes a status other than 0 for an error, and returns the output.
func Run(ctx context.Context, t Target, command string) (string, error) {
	res, err := t.Exec(ctx, command)
	if err != nil {
		return res.Output, err
	}
	if res.Status != 0 {
		return res.Output, fmt.Errorf("%s on %s ended with status %d: %s", strict.Clip(command), t.Rig().Name, res.Status, res.Output)
	}
	return res.Output, nil
}

// copyFile copies a file, holes and all.
func copyFile(ctx context.Context, from, to string) error {
	if _, err := process.Output(ctx, process.Spec{Path: "cp", Args: []string{"--sparse=always", "--reflink=auto", "--", from, to}}); err != nil {
		return err
	}
	return os.Chmod(to, 0o600)
}

// simulator finds the simulator of a serial line.
func (rig *Rig) simulator(name string) (Simulator, error) {
	for _, s := range rig.Simulators {
		if s.Name == name && s.Kind == KindRTU {
			return s, nil
		}
	}
	return Simulator{}, fmt.Errorf("rig %s has no simulator %s of kind %s: add it to simulators in its file: %w", rig.Name, name, KindRTU, ErrUnsupported)
}
