// Command skerry-initrd is process 1 of an image's initrd: it checks the slot's root, prepares the data partition, and becomes systemd
// (board/initrd). It ends only by restarting the board.
package main

import (
	"fmt"
	"os"

	"github.com/skerry/skerry/board/initrd"
)

func main() {
	err := boot()
	fmt.Fprintf(os.Stdout, "skerry: THIS SLOT CANNOT BE BOOTED: %v\nskerry: the board restarts; when this slot has no tries left, the other one is booted\n", err)
	initrd.Restart()
}

func boot() error {
	m := initrd.NewMachine(os.Stdout)
	if err := m.Prepare("/modules"); err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	c, err := initrd.ParseCommandLine(string(text))
	if err != nil {
		return err
	}
	if err := initrd.Boot(m, c); err != nil {
		return fmt.Errorf("slot %s: %w", c.Slot, err)
	}
	return m.SwitchRoot()
}
