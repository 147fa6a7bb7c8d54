//go:build integration

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/clockstep"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

const year = 365 * 24 * time.Hour

// steps are how far the agent's clock is from the machine's.
var steps = []time.Duration{10 * time.Minute, -10 * time.Minute, year, -year, -56 * year, 0}

// overlay returns what lets a program's wall clock be set.
func overlay(ctx context.Context) (string, error) {
	path, err := clockstep.Overlay(ctx, "../../build/clockstep")
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// TestClockUnits runs the tests with tag clockstep: pods, tokens, certificates and eviction in virtual time, while the clock is set.
func TestClockUnits(t *testing.T) {
	path, err := overlay(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", path, "-tags", "clockstep", "-run", "ClockStep", "-count", "1", "-timeout", "2m",
		"./firmware/pods", "./firmware/tokens", "./firmware/identity", "./firmware/eviction")
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	t.Logf("%s", out)
}

// clockFile is where the agent's clock is set.
func (w *world) clockFile() string { return filepath.Join(w.Dir, "clock") }

// withClock runs the agent as a program whose wall clock can be set. The program is the agent's own code.
func (w *world) withClock() error {
	path, err := overlay(w.t.Context())
	if err != nil {
		return err
	}
	program := filepath.Join(w.Dir, "skerryd-clockstep")
	cmd := exec.CommandContext(w.t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-overlay", path, "-o", program, "./firmware/cmd/skerryd")
	cmd.Dir, cmd.Env = w.Module, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the agent: %w: %s", err, out)
	}
	w.Skerry = stack.AgentProgram{Path: program, Env: []string{clockstep.Env + "=" + w.clockFile()}}
	return errors.Join(clockstep.Set(w.clockFile(), 0), w.killAgent())
}

// stepClock sets the agent's clock, and kills the agent every other time, before or after.
func (w *world) stepClock() error {
	to := steps[w.r.IntN(len(steps))]
	switch w.r.IntN(4) {
	case 0:
		return errors.Join(w.KillAgent(), clockstep.Set(w.clockFile(), to), w.StartAgent(w.t.Context()))
	case 1:
		return errors.Join(clockstep.Set(w.clockFile(), to), w.killAgent())
	default:
		return clockstep.Set(w.clockFile(), to)
	}
}

// rightClock sets the clock right: from then on no time of a status may lie in the future, or be from 1970. One from a year ago stays: the relay keeps the
// times at which conditions changed first, because agents may lose them.
func (w *world) rightClock() error {
	if err := clockstep.Set(w.clockFile(), 0); err != nil {
		return err
	}
	w.eventually(time.Minute, "times are sane again", func() error {
		list, err := w.cluster.Core.CoreV1().Pods(namespace).List(w.t.Context(), metav1.ListOptions{LabelSelector: "app=chaos"})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if err := saneTimes(&list.Items[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}

func saneTimes(p *corev1.Pod) error {
	if p.DeletionTimestamp != nil || p.Status.StartTime == nil {
		return nil
	}
	times := map[string]time.Time{"startTime": p.Status.StartTime.Time}
	for _, c := range p.Status.Conditions {
		times[string(c.Type)] = c.LastTransitionTime.Time
	}
	for what, at := range times {
		if at.After(time.Now().Add(2*time.Minute)) || at.Year() < 2020 {
			return fmt.Errorf("pod %s: %s is %v, now is %v", p.Name, what, at.UTC(), time.Now().UTC())
		}
	}
	return nil
}
