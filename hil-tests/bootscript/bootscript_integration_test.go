//go:build integration

package bootscript

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/board/bootenv"
)

const (
	a = bootenv.A
	b = bootenv.B
)

func copyOf(t *testing.T, e bootenv.Env) []byte {
	t.Helper()
	block, err := e.Encode(bootenv.Size)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// boots switches the machine on, and wants the slot that the model names, and on the disk what the model leaves.
func boots(t *testing.T, d *disk, kernelRuns bool) {
	t.Helper()
	before, _, err := d.environment()
	if err != nil {
		t.Fatal(err)
	}
	slot, want := before.Boot()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	console, err := d.boot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	after, cond, err := d.environment()
	if err != nil {
		t.Fatal(err)
	}
	said := "kernel of slot " + string(slot)
	if !kernelRuns {
		said = "skerry: slot " + string(slot) + " cannot be booted"
	}
	if !strings.Contains(console, said) {
		t.Errorf("the console does not say %q", said)
	}
	if !after.Equal(want) {
		t.Errorf("with %+v\nthe script leaves %+v\nthe model wants   %+v", before, after, want)
	}
	if cond.Problems != [2]error{} || cond.Stale {
		t.Errorf("copies after the boot: %+v", cond)
	}
	if t.Failed() {
		t.Fatalf("console:\n%s", console)
	}
}

func TestScriptInUBoot(t *testing.T) {
	d, err := newDisk(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	env := func(seq uint32, order [2]bootenv.Slot, leftA, leftB int, confirmed bootenv.Slot, resort int) bootenv.Env {
		return bootenv.Env{Seq: seq, Order: order, Left: map[bootenv.Slot]int{a: leftA, b: leftB}, Confirmed: confirmed, Resort: resort}
	}
	ab, ba := [2]bootenv.Slot{a, b}, [2]bootenv.Slot{b, a}
	zeros, ones := make([]byte, bootenv.Size), bytes.Repeat([]byte{0xff}, bootenv.Size)
	torn := copyOf(t, env(90, ba, 3, 3, a, 0))
	clear(torn[40:sector])
	for _, c := range []struct {
		name string
		a, b []byte
	}{
		{"both copies damaged", zeros, ones},
		{"an update is tried", copyOf(t, env(15, ba, 3, 3, a, 0)), copyOf(t, env(15, ba, 3, 3, a, 0))},
		{"the last try of an update", copyOf(t, env(0xfe, ba, 3, 1, a, 0)), copyOf(t, env(0xfe, ba, 3, 1, a, 0))},
		{"rolled back", copyOf(t, env(0xff, ba, 3, 0, a, 0)), copyOf(t, env(0xff, ba, 3, 0, a, 0))},
		{"copy a torn", torn, copyOf(t, env(89, ab, 3, 3, a, 0))},
		{"copy b torn", copyOf(t, env(89, ba, 3, 3, a, 0)), torn},
		{"copy a stale, numbers of several digits", copyOf(t, env(0x9, ab, 3, 3, a, 0)), copyOf(t, env(0x10, ba, 3, 2, a, 0))},
		{"copy b stale", copyOf(t, env(0x100, ba, 2, 3, a, 0)), copyOf(t, env(0xff, ab, 3, 3, a, 0))},
		{"no tries left, B confirmed", copyOf(t, env(5, ab, 0, 0, b, 0)), copyOf(t, env(5, ab, 0, 0, b, 0))},
		{"no tries left again", copyOf(t, env(6, ab, 0, 0, b, 1)), copyOf(t, env(6, ab, 0, 0, b, 1))},
		{"no tries left, often", copyOf(t, env(6, ab, 0, 0, "", 9)), copyOf(t, env(6, ab, 0, 0, "", 9))},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, content := range map[string][]byte{"env-a": c.a, "env-b": c.b} {
				if err := d.write(name, content); err != nil {
					t.Fatal(err)
				}
			}
			boots(t, d, true)
		})
	}
}

// TestSlotWithoutAKernel: a slot that cannot even be loaded loses its tries, and the other one boots.
func TestSlotWithoutAKernel(t *testing.T) {
	dir := t.TempDir()
	d, err := newDisk(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.slot(t.Context(), dir, b, map[string][]byte{"vmlinuz": []byte("no kernel"), "initrd": []byte("x"), "boot.cmdline": []byte("slotargs=panic=1\n")}); err != nil {
		t.Fatal(err)
	}
	e := bootenv.Default()
	e.Confirm(a)
	e.SetPrimary(b)
	e.Left[b] = 2
	for _, name := range []string{"env-a", "env-b"} {
		if err := d.write(name, copyOf(t, e)); err != nil {
			t.Fatal(err)
		}
	}
	boots(t, d, false)
	if err := d.slot(t.Context(), dir, b, nil); err != nil { // now it lacks all files
		t.Fatal(err)
	}
	boots(t, d, false)
	boots(t, d, true)
}
