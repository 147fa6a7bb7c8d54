package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestVerbs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the verbs that wait for a signal have it
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PORT", "0")
	for _, c := range []struct {
		args []string
		ok   bool
	}{
		{[]string{"cat", file}, true},
		{[]string{"cat", file + "x"}, false},
		{[]string{"env"}, true},
		{[]string{"sleep"}, true},
		{[]string{"memhog", "2"}, true},
		{[]string{"memhog", "much"}, false},
		{[]string{"memhog"}, false},
		{[]string{"exit", "one"}, false},
		{[]string{"dance"}, false},
		{[]string{"serve"}, true},
		{[]string{"https"}, true},
		{[]string{"https", "-1"}, true},
		{[]string{"https", "never"}, false},
		{nil, true},
	} {
		if err := run(ctx, c.args); (err == nil) != c.ok {
			t.Errorf("sample %v: %v", c.args, err)
		}
	}
}
