// Package raucclient has RAUC (1.8) verify and install bundles, through its own command: `rauc info` and `rauc install`, which talks to RAUC's service. No shell is
// involved, and what RAUC says is read with limits. The command was chosen over D-Bus calls of our own: it is there wherever RAUC is, and costs the
// agent no library.
//
//	c := raucclient.Client{}
//	compatible, version, err := c.Inspect(ctx, path)
//	err = c.Install(ctx, path, func(percent int) { … })
//
// A Client has no state; RAUC itself installs one bundle at a time. The tests use a hand-written rauc, hil-tests/updates the real one.
package raucclient

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Client runs rauc.
type Client struct {
	Command string   // empty: rauc
	Args    []string // before the verb
	Bus     string   // the command that asks RAUC's service over D-Bus; empty: systemd's busctl
}

func (c Client) command(ctx context.Context, args ...string) *exec.Cmd {
	name := c.Command
	if name == "" {
		name = "rauc"
	}
	cmd := exec.CommandContext(ctx, name, append(append([]string{}, c.Args...), args...)...) //nolint:gosec // rauc, with paths of the agent's
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

const (
	maxLine = 4 << 10
	kept    = 8 // lines of what RAUC says, for errors
)

// Inspect verifies the signature of a bundle and returns its compatible and version.
func (c Client) Inspect(ctx context.Context, path string) (compatible, version string, err error) {
	err = c.run(ctx, func(line string) {
		if v, ok := strings.CutPrefix(line, "RAUC_MF_COMPATIBLE="); ok {
			compatible = unquote(v)
		}
		if v, ok := strings.CutPrefix(line, "RAUC_MF_VERSION="); ok {
			version = unquote(v)
		}
	}, "info", "--output-format=shell", path)
	if err == nil && compatible == "" {
		err = fmt.Errorf("rauc info: says nothing of what %s is for", path)
	}
	return compatible, version, err
}

// unquote undoes g_shell_quote for what has no quotes in it: versions have none.
func unquote(s string) string { return strings.Trim(s, "'") }

// Install installs a bundle.
func (c Client) Install(ctx context.Context, path string, progress func(percent int)) error {
	err := c.run(ctx, func(line string) {
		text, _, ok := strings.Cut(strings.TrimSpace(line), "% ")
		if n, err := strconv.Atoi(text); ok && err == nil {
			progress(n)
		}
	}, "install", path)
	// The signature covers a bundle's hashes, and dm-verity gives an error of input for a block that is another one: Inspect finds such a bundle good.
	if err != nil && strings.Contains(err.Error(), unread) {
		err = fmt.Errorf("%w: the bundle was altered or damaged after it was signed, or the disk that it is on cannot be read: copy or download it again", err)
	}
	return err
}

// unread is what RAUC says of a bundle whose blocks it does not get, with strerror(3) of EIO; a flash that cannot be written is told otherwise.
const unread = "Error reading from file: Input/output error"

// Busy asks RAUC's service whether it installs a bundle now, and what it says of the last installation that failed. The service goes on when whoever has asked for an
// installation is killed; the command rauc (1.8) does not tell of it. A service that does not run is started by D-Bus.
func (c Client) Busy(ctx context.Context) (busy bool, last string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	name := c.Bus
	if name == "" {
		name = "busctl"
	}
	cmd := exec.CommandContext(ctx, name, "--system", "get-property", "de.pengutronix.rauc", "/", "de.pengutronix.rauc.Installer", "Operation", "LastError") //nolint:gosec // a fixed command
	cmd.WaitDelay = time.Second
	var said bounded
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return false, "", fmt.Errorf("ask RAUC's service what it does: %w: %s", err, strings.TrimSpace(strings.ToValidUTF8(string(said), "")))
	}
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	var values []string
	for _, l := range lines {
		text, ok := strings.CutPrefix(l, "s ")
		v, err := strconv.Unquote(text)
		if !ok || err != nil {
			return false, "", fmt.Errorf("ask RAUC's service what it does: it answers %q", said)
		}
		values = append(values, v)
	}
	if len(values) != 2 || values[0] != "idle" && values[0] != "installing" {
		return false, "", fmt.Errorf("ask RAUC's service what it does: it answers %q", said)
	}
	return values[0] == "installing", strings.ToValidUTF8(values[1], ""), nil
}

// bounded keeps the beginning of what is written to it.
type bounded []byte

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), maxLine-len(*b))]...)
	return len(p), nil
}

// run runs rauc and gives each line of its standard output to line. Its error has what RAUC said last.
func (c Client) run(ctx context.Context, line func(string), args ...string) error {
	cmd := c.command(ctx, args...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("rauc %s: %w: is RAUC installed?", args[0], err)
	}
	said := make(chan []string)
	go func() { said <- read(r, line) }()
	err := cmd.Wait()
	_ = w.Close()
	last := <-said
	if err != nil {
		return fmt.Errorf("rauc %s: %s (%w)", args[0], reason(last), err)
	}
	return nil
}

// read gives out lines and returns the last ones. A line that is too long is given in pieces.
func read(r io.Reader, line func(string)) (last []string) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		b, _, err := in.ReadLine()
		if err != nil {
			return last
		}
		text := strings.ToValidUTF8(string(b), "")
		line(text)
		if text = strings.TrimSpace(text); text != "" {
			if last = append(last, text); len(last) > kept {
				last = last[1:]
			}
		}
	}
}

// reason returns the lines that tell what is wrong, or the last one.
func reason(last []string) string {
	var out []string
	for _, l := range last {
		if text, ok := strings.CutPrefix(l, "LastError: "); ok {
			return text
		}
		if strings.Contains(l, "rror") || strings.Contains(l, "ailed") {
			out = append(out, l)
		}
	}
	if len(out) == 0 && len(last) > 0 {
		out = last[len(last)-1:]
	}
	return strings.Join(out, "; ")
}
