package serialline_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/serialline"
)

// TestWitness: a line is captured from the first device that wants it to the last.
func TestWitness(t *testing.T) {
	dir := t.TempDir()
	var w serialline.Witness
	say := func(text string) { w.Tap(time.Now(), true, []byte(text)) }
	say("one")
	w.Begin(dir, "/dev/ttyX", 0)
	say("two")
	w.Begin(dir, "/dev/ttyX", 8<<10)
	w.Begin(dir, "/dev/ttyX", 4<<10)
	say("three")
	w.End(8 << 10)
	w.End(0)
	say("four")
	w.End(4 << 10)
	say("five")
	w.Begin(dir, "/dev/ttyX", 4<<10)
	say("six")
	w.End(4 << 10)
	text, err := os.ReadFile(filepath.Join(dir, serialline.CaptureName("/dev/ttyX")))
	if err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]bool{"one": false, "two": false, "three": true, "four": true, "five": false, "six": true} {
		if strings.Contains(string(text), "|"+word+"|") != want {
			t.Errorf("%s is in the capture: %t, want %t\n%s", word, !want, want, text)
		}
	}
	// A folder that cannot be made costs the capture alone.
	w.Begin(filepath.Join(dir, serialline.CaptureName("/dev/ttyX")), "/dev/ttyX", 4<<10)
	say("seven")
	w.End(4 << 10)
}
