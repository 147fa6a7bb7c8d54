package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/update"
)

// TestUpdateInstall: an order is left for the agent only where the agent will take it.
func TestUpdateInstall(t *testing.T) {
	dir := t.TempDir()
	bundle, config := filepath.Join(dir, "system.raucb"), filepath.Join(dir, "skerryd.yaml")
	if err := os.WriteFile(bundle, []byte("a bundle"), 0o600); err != nil {
		t.Fatal(err)
	}
	for enabled, want := range map[string]string{"true": "", "false": "update.enabled is false"} {
		data := filepath.Join(dir, enabled)
		text := "node: {name: gw-1}\nrelay: {addresses: [\"127.0.0.1:7443\"]}\ndataDir: " + data + "\nupdate: {enabled: " + enabled + "}\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := run(t.Context(), []string{"update", "-config", config, "install", bundle}, &out, &out)
		orders, globErr := filepath.Glob(filepath.Join(data, "*", "*"))
		if globErr != nil {
			t.Fatal(globErr)
		}
		switch {
		case want == "" && (err != nil || len(orders) != 1 || !strings.Contains(out.String(), bundle)):
			t.Errorf("enabled: %v, %q, orders %v", err, out.String(), orders)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || len(orders) != 0):
			t.Errorf("not enabled: %v, orders %v", err, orders)
		}
		if want == "" {
			if err := update.Withdraw(filepath.Dir(orders[0])); err != nil {
				t.Errorf("what was ordered cannot be withdrawn: %v", err)
			}
		}
	}
	if err := run(t.Context(), []string{"update", "-config", config, "instal"}, &bytes.Buffer{}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "allowed are status, install FILE and cancel") {
		t.Errorf("a wrong verb: %v", err)
	}
}
