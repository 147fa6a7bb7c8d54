//go:build hil

package scenarios_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/target"
)

// scenario is one thing that happens to a gateway. It finds one that is on and Ready, and leaves one.
type scenario struct {
	name string
	// on says which rigs it is for; nil: all.
	on  func(*target.Rig) bool
	run func(t *testing.T, w *world)
}

// The order is that of a gateway's life: what needs less of it comes first.
var table = []scenario{
	{"boot", nil, boot},
	{"enrol", nil, enrol},
	{"board", nil, boardCheck},
	{"modbus-line", hasLine, modbusLine},
	{"opcua", hasPress, opcuaPress},
	{"link-cut", nil, linkCut},
	{"stick-and-pod", hasStick, stickAndPod},
	{"cold-start", hasStick, coldStart},
	{"full-data", hasLine, fullData},
	{"clock", isQEMU, clockWithoutBattery},
	{"watchdog", isQEMU, watchdog},
	{"power-cut", nil, powerCut},
	{"damaged-slot", isQEMU, damagedSlot},
	{"factory-reset", nil, factoryReset},
	{"altered-update", hasSlots, alteredUpdate},
	{"bad-update", hasSlots, badUpdate},
	{"update", hasSlots, updateWithCut},
}

func isQEMU(r *target.Rig) bool { return r.Adapter == target.AdapterQEMU }

// hasSlots: boards whose images have two systems.
func hasSlots(r *target.Rig) bool { return isQEMU(r) }

// hasStick: something plugs in USB sticks. A pod's images come on one.
func hasStick(r *target.Rig) bool { return isQEMU(r) || len(r.Stick.Insert) > 0 }

func hasLine(r *target.Rig) bool { return hasKind(r, target.KindRTU) }

func hasPress(r *target.Rig) bool { return hasKind(r, target.KindOPCUA) }

func hasKind(r *target.Rig, kind string) bool {
	for _, s := range r.Simulators {
		if s.Kind == kind {
			return true
		}
	}
	return false
}

// TestGateway plays all scenarios on each gateway. HIL_RIG names a rig file, HIL_BOARDS machines of QEMU.
func TestGateway(t *testing.T) {
	for _, rig := range rigs(t) {
		t.Run(rig.Name, func(t *testing.T) {
			w := newWorld(t, rig)
			defer w.writeTimes(t)
			for _, s := range table {
				if s.on != nil && !s.on(rig) {
					continue // the rig has nothing to play it with
				}
				t.Run(s.name, func(t *testing.T) {
					t.Cleanup(func() {
						if t.Failed() {
							w.keep(t, s.name)
						}
					})
					w.awake(t)
					s.run(t, w)
				})
			}
		})
	}
}

func rigs(t *testing.T) []*target.Rig {
	t.Helper()
	if path := os.Getenv("HIL_RIG"); path != "" {
		rig, err := target.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return []*target.Rig{rig}
	}
	boards := os.Getenv("HIL_BOARDS")
	if boards == "" {
		boards = "qemu-armv7,qemu-arm64"
	}
	var out []*target.Rig
	for b := range strings.SplitSeq(boards, ",") {
		rig, err := target.QEMU(b)
		if err != nil {
			t.Fatal(err)
		}
		rig.QEMU.DiskMiB = 1536
		out = append(out, rig)
	}
	return out
}

// writeTimes writes how long things took to build/hil/NAME/times.json, in seconds, and adds it to the file of figures that HIL_FIGURES names.
func (w *world) writeTimes(t *testing.T) {
	doc := map[string]float64{}
	for name, d := range w.times {
		doc[name] = d.Seconds()
		t.Logf("%s %.1f s", name, d.Seconds())
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "times.json"), append(text, '\n'), 0o644)
	}
	if file := os.Getenv("HIL_FIGURES"); err == nil && file != "" && !t.Failed() {
		err = addFigures(file, doc)
	}
	if err != nil {
		t.Error(err)
	}
}

// addFigures puts seconds beside what is in a file of figures (make image writes sizes there).
func addFigures(file string, seconds map[string]float64) error {
	figures := bench.New(strings.TrimSuffix(filepath.Base(file), ".json"), io.Discard)
	if text, err := os.ReadFile(file); err == nil {
		var there map[string]json.RawMessage
		if err := json.Unmarshal(text, &there); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		delete(there, "machine")
		for name, value := range there {
			figures.Attach(name, value)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for name, s := range seconds {
		figures.Add(name, math.Round(s*10)/10, "s")
	}
	return figures.Write(filepath.Dir(file))
}
