package kubeletapi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestUsages: folders are counted once a minute and by one request at a time, and not at all if they hold too much.
func TestUsages(t *testing.T) {
	dir := t.TempDir()
	u := usages{walking: make(chan struct{}, 1)}
	count := func() (uint64, bool) {
		r := u.newRound()
		defer r.end()
		_, inodes, ok := r.of(t.Context(), dir)
		return inodes, ok
	}
	if n, ok := count(); n != 1 || !ok {
		t.Errorf("empty: %d %v", n, ok)
	}
	for i := range 5 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, ok := count(); n != 1 || !ok {
		t.Errorf("counted again at once: %d %v", n, ok)
	}
	first, second := u.newRound(), u.newRound()
	if !first.may || second.may {
		t.Errorf("two count at the same time: %v %v", first.may, second.may)
	}
	other := t.TempDir()
	if _, _, ok := second.of(t.Context(), other); ok {
		t.Error("counted by the second")
	}
	if _, n, ok := first.of(t.Context(), other); !ok || n != 1 {
		t.Errorf("not counted by the first: %d %v", n, ok)
	}
	second.end()
	first.end() // forgets dir, which it was not asked for
	if n, ok := count(); n != 6 || !ok {
		t.Errorf("after it was forgotten: %d %v", n, ok)
	}
	if len(u.known) != 1 {
		t.Errorf("remembered: %v", u.known)
	}
	if _, _, err := treeUsage(t.Context(), dir, 5); !errors.Is(err, errBulky) {
		t.Errorf("six of five: %v", err)
	}
	if r := u.newRound(); true {
		if _, _, ok := r.of(t.Context(), filepath.Join(dir, "none")); ok {
			t.Error("what is not there was counted")
		}
		r.end()
	}
}
