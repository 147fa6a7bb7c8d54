// Package leds shows on a gateway's lights how it is, for whoever stands before the cabinet.
//
//	l := leds.Open("/", board.LEDs, log)
//	l.Show(leds.Look{State: leds.CutOff})
//	defer l.Restore()
//
// A board's descriptor says what each light is for: status, link and fault are the agent's; activity stays the kernel's. What they show is in docs/health.md. The
// lights are those of /sys/class/leds (Documentation/leds/leds-class.rst); the kernel blinks them, so a light costs nothing while its look does not change. A light
// that is not there is said once.
//
// Lights belong to one goroutine. Tests have a folder in place of /sys.
package leds

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skerry/skerry/board"
)

// State is what the agent is doing.
type State int

// The states.
const (
	Starting State = iota
	Connected
	CutOff // it has no relay, or has not joined yet
	Updating
)

// Look is what the lights are to show.
type Look struct {
	State State
	Fault bool // a part of the agent does not do its work
}

// pattern is a way to shine: on and off for so many milliseconds.
type pattern struct{ on, off int }

var (
	dark  = pattern{0, 1}
	shine = pattern{1, 0}
	slow  = pattern{500, 500}
	quick = pattern{100, 100}
	even  = pattern{250, 250}
	flash = pattern{100, 1900}
)

// patterns returns what each light shows. A board without a light for the link, or for faults, shows that on its status light.
func (v Look) patterns(has map[string]bool) map[string]pattern {
	status := map[State]pattern{Starting: quick, Connected: shine, CutOff: shine, Updating: even}[v.State]
	link := map[State]pattern{Starting: dark, Connected: shine, CutOff: slow, Updating: even}[v.State]
	fault := dark
	if v.Fault {
		fault = shine
	}
	if !has["link"] && v.State == CutOff {
		status = slow
	}
	if !has["fault"] && v.Fault {
		status = flash
	}
	return map[string]pattern{"status": status, "link": link, "fault": fault}
}

// light is one LED.
type light struct {
	dir, use   string
	max        string // its brightness
	trigger    string // before the agent came
	brightness string // likewise
	shows      pattern
	told       bool // that it cannot be set
}

// Lights are the lights of a gateway.
type Lights struct {
	lights []*light
	has    map[string]bool
	log    *slog.Logger
}

// Open finds the lights of a board below root, and remembers how they were. It changes none.
func Open(root string, list []board.LED, log *slog.Logger) *Lights {
	l := &Lights{has: map[string]bool{}, log: log}
	for _, led := range list {
		if led.Use != "status" && led.Use != "link" && led.Use != "fault" {
			continue
		}
		one, err := find(root, led)
		if err != nil {
			if !led.Optional {
				log.Warn("a light of the board cannot be used", "led", led.Name, "error", err)
			}
			continue
		}
		l.lights, l.has[led.Use] = append(l.lights, one), true
	}
	return l
}

func find(root string, led board.LED) (*light, error) {
	var errs []error
	for _, name := range led.Devices {
		dir := filepath.Join(root, "sys/class/leds", name)
		trigger, err := os.ReadFile(filepath.Join(dir, "trigger")) //nolint:gosec // of the board's descriptor
		if err != nil {
			errs = append(errs, err)
			continue
		}
		one := &light{dir: dir, use: led.Use, max: read(dir, "max_brightness", "255"), trigger: active(string(trigger)), brightness: read(dir, "brightness", "0"), shows: pattern{-1, -1}}
		return one, nil
	}
	return nil, errors.Join(errs...)
}

func read(dir, name, otherwise string) string {
	b, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // a list of this package's own
	if err != nil {
		return otherwise
	}
	return strings.TrimSpace(string(b))
}

// active returns the trigger in brackets.
func active(list string) string {
	for t := range strings.FieldsSeq(list) {
		if name, ok := strings.CutPrefix(t, "["); ok {
			return strings.TrimSuffix(name, "]")
		}
	}
	return "none"
}

// Show has the lights show a look. Only those that change are touched.
func (l *Lights) Show(v Look) {
	want := v.patterns(l.has)
	for _, one := range l.lights {
		p := want[one.use]
		if p == one.shows {
			continue
		}
		one.shows = p
		if err := one.set(p); err != nil && !one.told {
			one.told = true
			l.log.Warn("a light of the board cannot be set", "led", filepath.Base(one.dir), "error", err)
		}
	}
}

// Restore gives the lights back as they were.
func (l *Lights) Restore() {
	for _, one := range l.lights {
		if err := errors.Join(one.write("trigger", one.trigger), one.write("brightness", one.brightness)); err != nil {
			l.log.Debug("a light could not be given back", "led", filepath.Base(one.dir), "error", err)
		}
		one.shows = pattern{-1, -1}
	}
}

func (o *light) set(p pattern) error {
	if p.on == 0 || p.off == 0 {
		level := "0"
		if p.on > 0 {
			level = o.max
		}
		return errors.Join(o.write("trigger", "none"), o.write("brightness", level))
	}
	if err := o.write("trigger", "timer"); err != nil { // ledtrig-timer is not there
		return errors.Join(fmt.Errorf("it cannot blink, and shines: %w", err), o.write("trigger", "none"), o.write("brightness", o.max))
	}
	return errors.Join(o.write("delay_on", strconv.Itoa(p.on)), o.write("delay_off", strconv.Itoa(p.off)))
}

func (o *light) write(name, text string) error {
	f, err := os.OpenFile(filepath.Join(o.dir, name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
