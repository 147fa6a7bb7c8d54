package agent

import (
	"fmt"
	"maps"
	"os"
	"runtime/debug"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/budget"
	"github.com/skerry/skerry/firmware/devices"
)

// boardLabel tells the cluster which board a gateway is taken for.
const boardLabel = "node.skerry.dev/board"

// chooseBoard finds out what hardware this is. A board that the configuration names and that cannot be used is an error; a file on the
// device that cannot be read is told, and does not keep a gateway from starting.
func (a *Agent) chooseBoard(root string) error {
	c, err := board.Library{Dir: a.cfg.Board.Dir}.Choose(a.cfg.Board.Name, board.Identify(root))
	for _, skipped := range c.Skipped {
		a.log.Warn("a board's file cannot be used; the gateway goes on without it: correct it, skerryctl board list shows it", "error", skipped)
	}
	if err != nil {
		return fmt.Errorf("board.name: %w", err)
	}
	a.board = c
	return nil
}

// nodeLabels are the board's and the configuration's, which win.
func (a *Agent) nodeLabels() map[string]string {
	labels := map[string]string{boardLabel: a.board.Name}
	maps.Copy(labels, a.board.Node.Labels)
	maps.Copy(labels, a.cfg.Node.Labels)
	return labels
}

// garbage is how much of it may gather before it is collected, in percent of the memory in use (GOGC), below the limit. Most of what a
// gateway with many devices has in memory stays: Go's 100 would take twice that, and 50 costs 1 or 2 % of a core at 100,000 values a second.
const garbage = 50

// applyBudget derives all limits from the board's budget, or from memory.limit if that is given.
func (a *Agent) applyBudget() {
	a.limits = budget.Of(int64(a.board.Memory.Budget))
	if l := a.cfg.Memory.Limit; l.Given {
		a.limits = budget.ForHeap(int64(l.Bytes))
	}
	debug.SetMemoryLimit(a.limits.Heap)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	if a.cfg.Pods.Images.Parallel == 0 {
		a.cfg.Pods.Images.Parallel = a.limits.Pulls
	}
}

// DevicePorts are the board's serial ports, which devices may name.
func DevicePorts(d *board.Descriptor, root string) []devices.Port {
	var out []devices.Port
	for _, s := range d.Serial {
		out = append(out, devices.Port{Name: s.Name, Path: s.Path(root), Paths: s.Devices, Mode: s.Mode})
	}
	return out
}
