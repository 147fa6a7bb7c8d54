package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.bug.st/serial"

	"github.com/skerry/skerry/hil-tests/rig/process"

	"github.com/skerry/skerry/board/strict"
)

// board is a Target on somebody's bench.
type board struct {
	rig     *Rig
	opt     Options
	console *Console
	shell   *shell
	lines   []*bridge
	pipes   []*pipe
	cut     bool // Link(false) without a command
}

func openBench(ctx context.Context, rig *Rig, o Options) (_ Target, err error) {
	b := &board{rig: rig, opt: o}
	if b.console, err = newConsole(b.path("console.log")); err != nil {
		return nil, err
	}
	port, err := openPort(ctx, rig.Console)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("console of %s: %w", rig.Name, err), b.console.close())
	}
	b.console.attach(port)
	b.shell = &shell{console: b.console, user: rig.Console.User, pass: rig.Console.Password}
	return b, nil
}

// openPort opens a console where it is.
func openPort(ctx context.Context, at ConsoleAt) (io.ReadWriteCloser, error) {
	if network, address, ok := strings.Cut(at.Socket, ":"); ok {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	port, err := serial.Open(at.Device, &serial.Mode{BaudRate: at.Baud})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", at.Device, err)
	}
	return port, nil
}

func (b *board) path(name string) string { return filepath.Join(b.opt.Dir, b.rig.Name+"-"+name) }

// Rig implements Target.
func (b *board) Rig() *Rig { return b.rig }

// Console implements Target.
func (b *board) Console() *Console { return b.console }

// run runs one of the rig file's commands. what is its key.
func (b *board) run(ctx context.Context, what string, command []string, place, with string) (string, error) {
	if len(command) == 0 {
		return "", fmt.Errorf("rig %s has no command %s: %w", b.rig.Name, what, ErrUnsupported)
	}
	words := make([]string, len(command))
	for i, w := range command {
		words[i] = w
		if place != "" {
			words[i] = strings.ReplaceAll(w, place, with)
		}
	}
	out, err := process.Output(ctx, process.Spec{Name: what + " of rig " + b.rig.Name, Path: words[0], Args: words[1:]})
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, out)
	}
	return out, nil
}

// Flash implements Target.
func (b *board) Flash(ctx context.Context, image string) error {
	path, err := filepath.Abs(image)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	b.console.Note("flash %s", path)
	_, err = b.run(ctx, "flash", b.rig.Flash, "{image}", path)
	return err
}

// On implements Target. The simulators that are there are connected to their lines.
func (b *board) On(ctx context.Context) error {
	if err := b.connectLines(); err != nil {
		return err
	}
	return b.power(ctx, "on", b.rig.Power.On)
}

func (b *board) power(ctx context.Context, what string, command []string) error {
	b.console.Note("power %s", what)
	b.shell.booted()
	_, err := b.run(ctx, "power."+what, command, "", "")
	return err
}

// Off implements Target.
func (b *board) Off(ctx context.Context) error { return b.power(ctx, "off", b.rig.Power.Off) }

// Cut implements Target.
func (b *board) Cut(ctx context.Context) error {
	if len(b.rig.Power.Cut) == 0 {
		return b.Off(ctx)
	}
	return b.power(ctx, "cut", b.rig.Power.Cut)
}

// Reset implements Target.
func (b *board) Reset(ctx context.Context) error {
	if len(b.rig.Power.Reset) > 0 {
		return b.power(ctx, "reset", b.rig.Power.Reset)
	}
	if err := b.Off(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(b.rig.Power.Pause):
	}
	return b.On(ctx)
}

// Exec implements Target.
func (b *board) Exec(ctx context.Context, command string) (Result, error) {
	if len(b.rig.Exec) == 0 {
		return b.shell.Exec(ctx, command)
	}
	// The status comes with the output: ssh's own 255 is not the command's.
	out, err := b.run(ctx, "exec", b.rig.Exec, "{command}", "(\n"+command+"\n) </dev/null 2>&1; echo \"skerry-status $?\"")
	if err != nil {
		return Result{Output: out}, err
	}
	i := strings.LastIndex(out, "skerry-status ")
	if i < 0 {
		return Result{Output: out}, fmt.Errorf("exec of rig %s: its output does not end with the command's status:\n%s", b.rig.Name, out)
	}
	status, err := strconv.Atoi(strings.TrimSpace(out[i+len("skerry-status "):]))
	if err != nil {
		return Result{Output: out}, fmt.Errorf("status of %q: %w", strict.Clip(command), err)
	}
	return Result{Output: strings.TrimSuffix(out[:i], "\n"), Status: status}, nil
}

// Reach implements Target: what is on loopback here gets a port at network.here.
func (b *board) Reach(ctx context.Context, address string) (string, error) {
	if b.rig.Network.Here == "" {
		return "", fmt.Errorf("rig %s has no network.here, this computer's address as the gateway sees it: %w", b.rig.Name, ErrUnsupported)
	}
	for _, p := range b.pipes {
		if p.to == address {
			return p.at, nil
		}
	}
	p, err := newPipe(ctx, net.JoinHostPort(b.rig.Network.Here, "0"), address)
	if err != nil {
		return "", err
	}
	b.pipes = append(b.pipes, p)
	p.set(!b.cut)
	return p.at, nil
}

// Forward implements Target: a board has an address of its own.
func (b *board) Forward(_ context.Context, port int) (string, error) {
	if b.rig.Network.Gateway == "" {
		return "", fmt.Errorf("rig %s has no network.gateway, the gateway's address: %w", b.rig.Name, ErrUnsupported)
	}
	return net.JoinHostPort(b.rig.Network.Gateway, strconv.Itoa(port)), nil
}

// Link implements Target. Without a command for it, what Reach has made is cut.
func (b *board) Link(ctx context.Context, up bool) error {
	b.console.Note("network cable in: %v", up)
	b.cut = !up
	for _, p := range b.pipes {
		p.set(up)
	}
	switch {
	case len(b.rig.Network.Up) == 0:
		return nil
	case up:
		_, err := b.run(ctx, "network.up", b.rig.Network.Up, "", "")
		return err
	default:
		_, err := b.run(ctx, "network.down", b.rig.Network.Down, "", "")
		return err
	}
}

// Line implements Target.
func (b *board) Line(name string) (path, port string, err error) {
	s, err := b.rig.simulator(name)
	return b.path(name), s.Port, err
}

// connectLines joins the pseudo-terminals of the simulators with the adapters at the lines.
func (b *board) connectLines() error {
	b.disconnectLines()
	for _, s := range b.rig.Simulators {
		if _, err := os.Stat(b.path(s.Name)); s.Kind != KindRTU || err != nil {
			continue // the scenario has no use for it
		}
		br, err := newBridge(b.path(s.Name), s.Adapter, s.Baud)
		if err != nil {
			return fmt.Errorf("line of simulator %s: %w", s.Name, err)
		}
		b.lines = append(b.lines, br)
	}
	return nil
}

func (b *board) disconnectLines() {
	for _, l := range b.lines {
		l.close()
	}
	b.lines = nil
}

// InsertStick implements Target.
func (b *board) InsertStick(ctx context.Context, image string) error {
	path, err := filepath.Abs(image)
	if err != nil {
		return fmt.Errorf("content of the USB stick: %w", err)
	}
	b.console.Note("USB stick in: %s", path)
	_, err = b.run(ctx, "stick.insert", b.rig.Stick.Insert, "{image}", path)
	return err
}

// RemoveStick implements Target.
func (b *board) RemoveStick(ctx context.Context) error {
	b.console.Note("USB stick out")
	_, err := b.run(ctx, "stick.remove", b.rig.Stick.Remove, "", "")
	return err
}

// boardState is what Keep asks a board for, if it still answers.
const boardState = `uname -a; uptime; free; df -h; ps; dmesg | tail -n 200; journalctl -b --no-pager -n 500`

// Keep implements Target.
func (b *board) Keep(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder of what is kept: %w", err)
	}
	asking, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	res, err := b.Exec(asking, boardState)
	text := res.Output
	if err != nil {
		text += "\n" + err.Error() + "\n"
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "board.txt"), []byte(text), 0o644), keepFiles(ctx, dir, []string{b.console.Transcript()}))
}

// Close implements Target.
func (b *board) Close() error {
	b.disconnectLines()
	for _, p := range b.pipes {
		p.close()
	}
	return b.console.close()
}
