package rauc

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/skerry/skerry/board/bootenv"
)

// BackendPath is where an image has the handler: a link to skerryd, which knows by that name what it is asked.
const BackendPath = "/usr/lib/skerry/boot-backend"

// Backend answers what RAUC asks a custom boot loader back end. RAUC reads the first line of what is printed and takes any exit status but 0 as a failure.
type Backend struct {
	Open    func() (*bootenv.Disk, error)
	Cmdline string // the kernel's, as /proc/cmdline has it
	// Verify returns nil if a slot's content is on the medium and whole (VerifySlot). It is asked before the slot becomes the one that boots next.
	Verify func(bootenv.Slot) error
}

// ErrUsage says that the verb, or what follows it, is not one of RAUC's.
var ErrUsage = errors.New("allowed are get-primary, set-primary SLOT, get-state SLOT, set-state SLOT good|bad, get-current; SLOT is A or B")

// Run does what args say: get-primary, set-primary SLOT, get-state SLOT, set-state SLOT good|bad, get-current.
func (b Backend) Run(args []string, stdout io.Writer) error {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	count := map[string]int{"get-primary": 1, "set-primary": 2, "get-state": 2, "set-state": 3, "get-current": 1}
	if count[verb] == 0 || count[verb] != len(args) {
		return fmt.Errorf("%q: %w", strings.Join(args, " "), ErrUsage)
	}
	if verb == "get-current" {
		s, err := Current(b.Cmdline)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, s)
		return err
	}
	var slot bootenv.Slot
	if len(args) > 1 {
		var err error
		if slot, err = bootenv.ParseSlot(args[1]); err != nil {
			return err
		}
	}
	if verb == "set-primary" { // before the environment is locked: it takes some seconds
		if err := b.Verify(slot); err != nil {
			return fmt.Errorf("slot %s is not made the one that boots next: %w", slot, err)
		}
	}
	disk, err := b.Open()
	if err != nil {
		return err
	}
	switch verb {
	case "set-primary":
		_, err = disk.Update(func(e *bootenv.Env) error { e.SetPrimary(slot); return nil })
	case "set-state":
		err = setState(disk, slot, args[2])
	default:
		err = tell(disk, verb, slot, stdout)
	}
	return errors.Join(err, disk.Close())
}

func setState(disk *bootenv.Disk, slot bootenv.Slot, state string) error {
	if state != "good" && state != "bad" {
		return fmt.Errorf("state %q: %w", state, ErrUsage)
	}
	_, err := disk.Update(func(e *bootenv.Env) error { e.SetGood(slot, state == "good"); return nil })
	return err
}

func tell(disk *bootenv.Disk, verb string, slot bootenv.Slot, stdout io.Writer) error {
	e, _ := disk.Read()
	text := "bad"
	switch {
	case verb == "get-primary":
		s, ok := e.Primary()
		if !ok { // the last resort: what boots then
			s, _ = e.Boot()
		}
		text = string(s)
	case e.Good(slot):
		text = "good"
	}
	_, err := fmt.Fprintln(stdout, text)
	return err
}

// Current returns the slot that runs, by what the boot script gave the kernel.
func Current(cmdline string) (bootenv.Slot, error) {
	for _, word := range strings.Fields(cmdline) {
		if name, ok := strings.CutPrefix(word, "skerry.slot="); ok {
			return bootenv.ParseSlot(name)
		}
	}
	return "", errors.New("the kernel was booted without skerry.slot=: this system was not started by Skerry's boot script")
}

// Paths are the partitions of the boot environment by the names that a board's descriptor gives them.
func Paths(environment []string) ([2]string, error) {
	if len(environment) != 2 {
		return [2]string{}, fmt.Errorf("storage.environment of the board names %d partitions, want two: this board is not updated by Skerry", len(environment))
	}
	return [2]string{byLabel(environment[0]), byLabel(environment[1])}, nil
}

func byLabel(partition string) string { return "/dev/disk/by-partlabel/" + partition }
