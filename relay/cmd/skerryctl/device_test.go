package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDeviceImport needs no cluster.
func TestDeviceImport(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list.csv")
	if err := os.WriteFile(list, []byte("Name,Address,Type\nPower,40001,REAL\nState,1x,BOOL\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, string, int) {
		var out, errs bytes.Buffer
		status := run(t.Context(), append([]string{"device", "import", list}, args...), &out, &errs, nil)
		return out.String(), errs.String(), status
	}
	if out, errs, status := run("--model", "meter"); status != 1 || out != "" || !strings.Contains(errs, "line 3 (State)") || !strings.Contains(errs, "points were refused: 1 of 2,") {
		t.Errorf("%d %q %q", status, out, errs)
	}
	out, errs, status := run("--model", "meter", "--skip-refused", "-n", "plant", "--node", "gw-1", "--set", "ip=10.0.0.7")
	if status != 0 || !strings.Contains(out, "namespace: plant") || !strings.Contains(out, "nodeName: gw-1") || !strings.Contains(out, "ip: 10.0.0.7") {
		t.Errorf("%d %q %q", status, out, errs)
	}
}
