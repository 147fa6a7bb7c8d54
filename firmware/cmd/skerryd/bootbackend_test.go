package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/board"
)

// TestBootBackendWithABrokenConfiguration: it asks for the boot environment where an image has it, as far as a machine without one can show.
func TestBootBackendWithABrokenConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skerryd.yaml")
	for name, text := range map[string]string{"a misspelt key": "nod: {}\n", "no YAML": "\tx: [\n", "a board that does not fit": "board: {name: no-such-board}\nnod: {}\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, said bytes.Buffer
		err := run(t.Context(), []string{"boot-backend", "-config", file, "get-primary"}, &out, &said)
		if err == nil || !strings.Contains(err.Error(), "open copy 0 of the boot environment") || !strings.Contains(err.Error(), "/by-partlabel/env-a") {
			t.Errorf("%s: %v, want that it looks for env-a", name, err)
		}
		if out.Len() > 0 || !strings.Contains(said.String(), "the configuration is not used") {
			t.Errorf("%s: RAUC reads %q, and people %q", name, out.String(), said.String())
		}
	}
}

// TestImageStorage: boards with an image call their partitions so.
func TestImageStorage(t *testing.T) {
	d, err := board.Library{}.Load("qemu-armv7")
	if err != nil {
		t.Fatal(err)
	}
	want, got := d.Storage, imageStorage()
	if strings.Join(want.Environment, " ") != strings.Join(got.Environment, " ") || len(want.Slots) != len(got.Slots) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	for i := range want.Slots {
		if want.Slots[i] != got.Slots[i] {
			t.Errorf("slot %+v, want %+v", got.Slots[i], want.Slots[i])
		}
	}
}
