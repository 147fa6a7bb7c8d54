package agent

import (
	"fmt"
	"maps"

	"github.com/skerry/skerry/board"
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
	a.log.Info("the board", "board", c.Name, "why", c.Why, "from", c.Source)
	return nil
}

// nodeLabels are the board's and the configuration's, which win.
func (a *Agent) nodeLabels() map[string]string {
	labels := map[string]string{boardLabel: a.board.Name}
	maps.Copy(labels, a.board.Node.Labels)
	maps.Copy(labels, a.cfg.Node.Labels)
	return labels
}
