package pods

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestResolverIsRemembered: pods that start before the network is up get the servers that the gateway named last, also after a restart.
func TestResolverIsRemembered(t *testing.T) {
	dir := t.TempDir()
	conf, kept := filepath.Join(dir, "conf"), filepath.Join(dir, resolverFileName)
	name := func(text string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pod := decode(t, `{"dnsPolicy":"Default","containers":[{"name":"c","image":"app:1"}]}`).pod
	start := func() *resolver { return &resolver{path: kept, log: slog.New(slog.DiscardHandler)} }
	r := start()
	expect := func(when, servers, search, note string) {
		t.Helper()
		got, notes, err := dnsConfig(&pod, &host{resolvConf: conf, resolver: r})
		if err != nil {
			t.Fatal(when, err)
		}
		if s := strings.Join(got.Servers, " "); s != servers || strings.Join(got.Searches, " ") != search {
			t.Errorf("%s: servers %q, search %q, want %q and %q", when, s, got.Searches, servers, search)
		}
		if note == "" && len(notes) > 0 || note != "" && (len(notes) != 1 || !strings.Contains(notes[0].message, note)) {
			t.Errorf("%s: notes %v, want %q", when, notes, note)
		}
	}
	expect("no file at all", "", "", "has no name server, in "+conf)
	name("# written by dhclient\n")
	expect("no server yet", "", "", "started anew")
	if _, err := os.Stat(kept); !os.IsNotExist(err) {
		t.Errorf("nothing is remembered: %v", err)
	}
	name("nameserver 192.0.2.1\nsearch plant.example\n")
	expect("the network is up", "192.0.2.1", "plant.example", "")
	first, err := os.Stat(kept)
	if err != nil {
		t.Fatal(err)
	}
	expect("again", "192.0.2.1", "plant.example", "")
	if second, err := os.Stat(kept); err != nil || !os.SameFile(first, second) {
		t.Errorf("what had not changed was written again: %v", err)
	}
	name("\n")
	expect("the network is down", "192.0.2.1", "plant.example", "")
	r = start()
	expect("after a restart without a network", "192.0.2.1", "plant.example", "")
	name("nameserver 192.0.2.2\n")
	expect("another network", "192.0.2.2", "", "")
	r = start()
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	expect("another restart", "192.0.2.2", "", "")
	if err := os.WriteFile(kept, []byte{0, 1, 2}, 0o600); err != nil {
		t.Fatal(err)
	}
	r = start()
	expect("what was remembered is damaged", "", "", "has no name server")
}

// leftovers lists what is in the pods' folder beside what the node itself keeps there.
func (w *world) leftovers() []string {
	entries, _ := filepath.Glob(filepath.Join(w.o.Dir, "*"))
	return slices.DeleteFunc(entries, func(path string) bool {
		return slices.Contains([]string{clocksFile, resolverFileName}, filepath.Base(path))
	})
}

// TestResolverIsRememberedWithoutPods: the gateway's resolvers are those of a time at which no pod started, as a rule.
func TestResolverIsRememberedWithoutPods(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		w.o.ResolvConf = filepath.Join(t.TempDir(), "conf")
		w.start()
		w.settle(time.Minute)
		if err := os.WriteFile(w.o.ResolvConf, []byte("nameserver 192.0.2.1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.settle(time.Minute)
		if b, err := os.ReadFile(filepath.Join(w.o.Dir, resolverFileName)); err != nil || string(b) != "nameserver 192.0.2.1\n" {
			t.Errorf("%q is remembered, %v", b, err)
		}
	})
}
