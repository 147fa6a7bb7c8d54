package bootenv

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnTrial(t *testing.T) {
	e := Default()
	if e.OnTrial(A) || e.OnTrial(B) {
		t.Error("a disk on which nothing was confirmed yet is on trial: there is nothing to go back to")
	}
	e.Confirm(A)
	e.SetPrimary(B)
	slot, e := e.Boot()
	if slot != B || !e.OnTrial(B) || e.OnTrial(A) {
		t.Errorf("slot %s was installed and booted, %+v", slot, e)
	}
	given := e.clone()
	given.SetGood(A, false)
	if given.OnTrial(B) {
		t.Error("the confirmed slot was given up, and B goes back to it")
	}
	if e.Confirm(B); e.OnTrial(B) {
		t.Error("B is confirmed and on trial")
	}
}

// TestPeek: neither a lock nor a damaged or missing copy keeps anybody from reading.
func TestPeek(t *testing.T) {
	dir := t.TempDir()
	paths := [2]string{filepath.Join(dir, "env-a"), filepath.Join(dir, "env-b")}
	if _, _, err := Peek(paths); err == nil {
		t.Error("partitions that are not there were read")
	}
	e := Default()
	e.Seq = 4
	e.Confirm(B)
	if err := os.WriteFile(paths[1], mustEncode(t, e), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, c, err := Peek(paths); err != nil || !got.Equal(e) || c.Problems[0] == nil {
		t.Errorf("with one copy: %+v, %+v, %v", got, c, err)
	}
	if err := os.WriteFile(paths[0], make([]byte, Size), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(paths)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // nothing was written
	if got, _, err := Peek(paths); err != nil || !got.Equal(e) {
		t.Errorf("while somebody has it open: %+v, %v", got, err)
	}
}
