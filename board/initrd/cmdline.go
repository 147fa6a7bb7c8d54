package initrd

import (
	"fmt"
	"strings"
)

// CommandLine is what the boot script tells of the slot.
type CommandLine struct {
	Slot     string // A or B
	RootHash string // of dm-verity, 64 hexadecimal digits
}

// ParseCommandLine reads skerry.slot and skerry.roothash of a kernel command line. Of a word that is there twice the last one counts.
func ParseCommandLine(text string) (CommandLine, error) {
	var c CommandLine
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "skerry.slot":
			c.Slot = value
		case "skerry.roothash":
			c.RootHash = value
		}
	}
	if c.Slot != "A" && c.Slot != "B" {
		return c, fmt.Errorf("the boot script names no slot: skerry.slot is %q, and has to be A or B", c.Slot)
	}
	if len(c.RootHash) != 64 || strings.Trim(c.RootHash, "0123456789abcdef") != "" {
		return c, fmt.Errorf("the boot script names no root of slot %s: skerry.roothash is %q, and has to be 64 hexadecimal digits (boot.cmdline of the slot's boot partition)", c.Slot, c.RootHash)
	}
	return c, nil
}

// root and data are the names of the partitions in the partition table.
func (c CommandLine) root() string { return "root-" + strings.ToLower(c.Slot) }

const dataPartition = "data"
