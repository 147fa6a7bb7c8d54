package agent

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/health"
	"github.com/skerry/skerry/firmware/health/journal"
	"github.com/skerry/skerry/firmware/health/readonly"
	"github.com/skerry/skerry/firmware/health/watchdog"
)

// HealthStatus says how the agent's parts are, what watches over them, and how the gateway was started.
type HealthStatus struct {
	Components []health.State `json:"components"`
	Watchdog   watchdog.State `json:"watchdog"`
	Boot       *journal.Boot  `json:"boot,omitempty"` // this one; nil: no journal
	Disk       readonly.State `json:"disk"`
}

func (a *Agent) healthStatus() HealthStatus {
	s := HealthStatus{Components: a.beats.registry.States(), Watchdog: a.health.keeper.State()}
	if g := a.disk.guard; g != nil {
		s.Disk = g.State()
	}
	if j := a.health.journal.Load(); j != nil {
		if boots := j.Boots(); len(boots) > 0 {
			s.Boot = &boots[len(boots)-1]
		}
	}
	return s
}

func (s HealthStatus) print(w io.Writer, now time.Time) {
	for _, c := range s.Components {
		if c.Trouble != "" {
			fmt.Fprintf(w, "health    FAULT: %s\n", c.Trouble)
		}
	}
	if s.Disk.ReadOnly {
		fmt.Fprintf(w, "disk      FAULT: %s\n", s.Disk.Message)
	}
	switch d := s.Watchdog; {
	case d.Watchdog == "":
		fmt.Fprintln(w, "watchdog  none")
	case d.Starving:
		fmt.Fprintf(w, "watchdog  %s: NO LONGER FED, acts within %s: %s\n", d.Watchdog, d.Timeout, strings.Join(d.Wedged, "; "))
	default:
		fmt.Fprintf(w, "watchdog  %s, acts after %s\n", d.Watchdog, d.Timeout)
	}
	if b := s.Boot; b != nil {
		fmt.Fprintf(w, "boot      %d, %s ago, because of: %s %s\n", b.Number, age(now, b.Began), b.Reason, b.Detail)
		for _, r := range b.Runs {
			if r.End != journal.EndRunning && r.End != journal.EndStopped {
				fmt.Fprintf(w, "          the agent with pid %d was %s: %s\n", r.PID, r.End, r.Detail)
			}
		}
	}
}
