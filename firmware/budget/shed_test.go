package budget

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestManualOfLevels holds the table of docs/boards.md to the levels.
func TestManualOfLevels(t *testing.T) {
	b, err := os.ReadFile("../../docs/boards.md")
	if err != nil {
		t.Fatal(err)
	}
	for l := History; l <= Most; l++ {
		if row := fmt.Sprintf("| `%s` | %.0f %% |", l, l.From()*100); !strings.Contains(string(b), row) {
			t.Errorf("docs/boards.md lacks %q", row)
		}
	}
}

// TestShedder is told a use every five seconds.
func TestShedder(t *testing.T) {
	type span struct {
		use   float64
		steps int
		want  Level // at the end
	}
	for what, spans := range map[string][]span{
		"enough":                    {{0.69, 100, Everything}},
		"one level at a time":       {{0.99, 1, History}, {0.99, 1, Logs}, {0.99, 12, Logs}, {0.99, 1, Pulls}, {0.99, 12, Pulls}, {0.99, 1, Polls}, {0.99, 100, Polls}},
		"a burst costs no pulls":    {{0.99, 2, Logs}, {0.99, 12, Logs}, {0.80, 1, Logs}, {0.99, 12, Logs}, {0.99, 1, Pulls}, {0.99, 12, Pulls}, {0.90, 1, Pulls}, {0.99, 12, Pulls}},
		"no higher than needed":     {{0.80, 100, Logs}},
		"the band holds":            {{0.80, 2, Logs}, {0.71, 1000, Logs}},
		"calm for a minute":         {{0.80, 2, Logs}, {0.60, 12, Logs}, {0.60, 1, History}, {0.60, 12, History}, {0.60, 1, Everything}},
		"calm begins anew":          {{0.80, 2, Logs}, {0.60, 12, Logs}, {0.75, 1, Logs}, {0.60, 12, Logs}, {0.60, 1, History}},
		"in reverse, and up again":  {{0.99, 28, Polls}, {0.50, 13, Pulls}, {0.95, 13, Polls}, {0.50, 13 * 4, Everything}},
		"above the limit all sheds": {{1.50, 28, Polls}},
	} {
		var s Shedder
		now := time.Unix(1_790_000_000, 0)
		for i, sp := range spans {
			var got Level
			for range sp.steps {
				got = s.Step(sp.use, now)
				now = now.Add(5 * time.Second)
			}
			if got != sp.want {
				t.Errorf("%s, span %d (%.2f): level %d, want %d", what, i, sp.use, got, sp.want)
			}
		}
	}
}

// TestClockSetBack: a gateway wakes in 1970 and learns the time, or loses it; the level still falls.
func TestClockSetBack(t *testing.T) {
	var s Shedder
	now := time.Unix(1_790_000_000, 0)
	s.Step(0.75, now)
	s.Step(0.1, now)
	for i := range 14 {
		s.Step(0.1, time.Unix(int64(i)*5, 0))
	}
	if got := s.Step(0.1, time.Unix(80, 0)); got != Everything {
		t.Errorf("level %d", got)
	}
}

func TestWords(t *testing.T) {
	if got := Polls.Text(); got != "fewer device values wait for the disk, logs are not followed, images are not pulled, devices are polled half as often" {
		t.Errorf("%q", got)
	}
	if Everything.Text() != "" || Logs.String() != "LogStreams" {
		t.Error(Everything.Text(), Logs.String())
	}
	for l := History; l <= Most; l++ {
		if l.From() <= (l-1).From() || l.From() >= 1 {
			t.Errorf("%s from %v", l, l.From())
		}
	}
}
