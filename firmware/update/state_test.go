package update

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/board/bootenv"
)

// TestLargeState: what is saved can be read again. A state that is too large loses its history, not an update that is under way.
func TestLargeState(t *testing.T) {
	b := newBench(t)
	u, err := New(b.options())
	if err != nil {
		t.Fatal(err)
	}
	s := State{Phase: Rebooting, Order: Order{ID: "one", Bundle: "https://updates.example.org/x.skidx"}, From: bootenv.A, To: bootenv.B, Version: "1.1", Reason: strings.Repeat("r", maxState)}
	for i := range maxFailures {
		s.Failed = append(s.Failed, Failure{Version: fmt.Sprint("0.", i), Bundle: strings.Repeat("b", 20<<10), Reason: strings.Repeat("é", maxState), At: time.Unix(1e9, 0).UTC(), Tried: true})
	}
	for i := range 10000 {
		s.Baseline.Devices = append(s.Baseline.Devices, fmt.Sprintf("default/a-device-with-a-long-name-%d", i))
	}
	if _, err := u.act(t.Context(), Save{State: s}); err != nil {
		t.Fatal(err)
	}
	got, err := u.load()
	if err != nil || got.Phase != Rebooting || got.To != bootenv.B || got.Order != s.Order || len(got.Baseline.Devices) == 0 {
		t.Fatalf("it came back as phase %q with %d devices, %v", got.Phase, len(got.Baseline.Devices), err)
	}
	if n := len(got.Failed); n == 0 || n == maxFailures || got.Failed[n-1].Version != "0.15" || got.failed("0.15") == "" {
		t.Errorf("%d failures are left: the newest have to be", n)
	}
	if len(s.Failed) != maxFailures || len(s.Failed[0].Reason) < maxState {
		t.Error("the machine's own state was changed")
	}
}

// TestStateThatCannotBeShortened is refused before anything is written: the one before stays.
func TestStateThatCannotBeShortened(t *testing.T) {
	b := newBench(t)
	u, err := New(b.options())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.dir, stateFile)
	if err := os.WriteFile(path, []byte(`{"phase":"Idle","done":"before"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = u.act(t.Context(), Save{State: State{Phase: Downloading, From: bootenv.A, To: bootenv.B, Path: strings.Repeat("p", maxState)}})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("at most ", maxState)) {
		t.Errorf("Save gives %v", err)
	}
	if s, err := u.load(); err != nil || s.Done != "before" {
		t.Errorf("the state is %+v, %v", s, err)
	}
}

func TestBundleOf(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "root-b"), filepath.Join(dir, "boot-b")}
	for i, size := range []int64{100 << 20, 20 << 20} {
		if err := os.WriteFile(paths[i], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(paths[i], size); err != nil {
			t.Fatal(err)
		}
	}
	if n := BundleOf(paths); n < 121<<20 || n > 124<<20 {
		t.Errorf("a bundle for slots of 120 MiB may have %d bytes", n)
	}
	if n := BundleOf(append(paths, filepath.Join(dir, "none"))); n != 0 {
		t.Errorf("a slot of unknown size: %d", n)
	}
	_, err := Downloader{Most: 1 << 20}.Download(t.Context(), paths[1], dir, func(int) {})
	if !Fatal(err) || !strings.Contains(err.Error(), "has 20971520 bytes, and at most 1048576") {
		t.Errorf("a file larger than a slot: %v", err)
	}
}
