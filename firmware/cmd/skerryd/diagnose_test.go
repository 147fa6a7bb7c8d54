package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDiagnoseWritesOverNothing: the name that it chooses itself can be foretold.
func TestDiagnoseWritesOverNothing(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	config := filepath.Join(dir, "skerryd.yaml")
	if err := os.WriteFile(config, []byte("node: {name: gw-1}\nrelay: {addresses: [\"127.0.0.1:7443\"]}\ndataDir: "+dir+"\nsocket: "+dir+"/none.sock\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	name, victim := "skerry-diagnose-gw-1-20260102T030405Z.tar.gz", filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o644); err != nil { //nolint:gosec // as another user's
		t.Fatal(err)
	}
	bundle := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := diagnoseAt(t.Context(), append([]string{"-config", config}, args...), &out, &out, func() time.Time { return at })
		return out.String(), err
	}
	if err := os.Symlink(victim, name); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle(); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a link that lies there: %v", err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Fatalf("the link's target has become %q, %v", b, err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if said, err := bundle(); err != nil {
		t.Fatal(err, said)
	}
	st, err := os.Lstat(name)
	if err != nil || st.Mode() != 0o600 || st.Size() == 0 {
		t.Fatalf("the bundle: %v, %v", st.Mode(), err)
	}
	if _, err := bundle(); err == nil {
		t.Error("a bundle was written over")
	}
	if again, err := os.Lstat(name); err != nil || again.Size() != st.Size() {
		t.Errorf("the first bundle was harmed: %v", err)
	}
}
