package alarm

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Limits of what a manifest may ask for.
const (
	MaxPerProperty = 8
	MaxPerDevice   = 256
	maxMessage     = 256
	maxDelay       = 24 * time.Hour
)

// Severity is how grave an alarm is: ISA-18.2's priority.
type Severity uint8

// The severities.
const (
	Info Severity = iota
	Low
	Medium
	High
	Critical
)

func (s Severity) String() string {
	return [...]string{"info", "low", "medium", "high", "critical"}[min(s, Critical)]
}

// OnBad is what an alarm does while the quality of its value is bad.
type OnBad uint8

// What an alarm does while the quality is bad.
const (
	Hold  OnBad = iota // keeps its level
	Raise              // is in alarm because of that
	Clear              // returns to normal
)

// Level is the state of an alarm.
type Level uint8

// The levels, the gravest last.
const (
	Normal Level = iota
	BadQuality
	Active // the condition holds
	BelowLow
	AboveHigh
	BelowLowLow
	AboveHighHigh
)

// String returns the level as conditions of Kubernetes name it.
func (l Level) String() string {
	return [...]string{"Normal", "BadQuality", "Active", "Low", "High", "LowLow", "HighHigh"}[min(l, AboveHighHigh)]
}

// Config is one alarm.
type Config struct {
	Name     string // unique in the device
	Property string // that it belongs to
	// When is the text of the condition; empty for one with setpoints.
	When string
	// Setpoints by level; those that are not set are missing.
	Setpoints         []Setpoint
	Hysteresis        float64
	OnDelay, OffDelay time.Duration
	Severity          Severity
	Message           string
	OnBad             OnBad
}

// Setpoint is one limit.
type Setpoint struct {
	Level Level
	Limit float64
}

// high tells whether the alarm is above the limit.
func (s Setpoint) high() bool { return s.Level == AboveHigh || s.Level == AboveHighHigh }

// Name returns the field of the manifest.
func (s Setpoint) Name() string {
	switch s.Level {
	case BelowLow:
		return "low"
	case AboveHigh:
		return "high"
	case BelowLowLow:
		return "lowLow"
	default:
		return "highHigh"
	}
}

// Describe lists the fields of an alarm.
func Describe() []device.FieldDoc {
	return []device.FieldDoc{
		{Name: "name", Meaning: "what conditions and events call it; unique in the device", Default: "the property's name", Allowed: "letters, digits, - _ ., up to 60"},
		{Name: "high", Meaning: "in alarm above it", Default: "none", Allowed: "a number"},
		{Name: "highHigh", Meaning: "in graver alarm above it", Default: "none", Allowed: "a number not below high"},
		{Name: "low", Meaning: "in alarm below it", Default: "none", Allowed: "a number below high"},
		{Name: "lowLow", Meaning: "in graver alarm below it", Default: "none", Allowed: "a number not above low"},
		{Name: "when", Aliases: []string{"condition"}, Meaning: "in alarm while this expression is true, instead of limits", Default: "none", Allowed: "an expression that is true or false"},
		{Name: "hysteresis", Aliases: []string{"deadband"}, Meaning: "how far inside the limit a value must be for the alarm to clear", Default: "0", Allowed: "a number from 0"},
		{Name: "onDelay", Meaning: "how long a value must be in alarm, in ms", Default: "0", Allowed: "0 to 86400000"},
		{Name: "offDelay", Meaning: "how long it must be normal to clear, in ms", Default: "0", Allowed: "0 to 86400000"},
		{Name: "severity", Aliases: []string{"priority"}, Meaning: "how grave it is", Default: "medium", Allowed: "critical, high, medium, low, info"},
		{Name: "message", Meaning: "what an operator shall read", Default: "none", Allowed: "up to 256 bytes"},
		{Name: "onBad", Meaning: "while the quality is bad: hold the state, be in alarm, or clear", Default: "hold", Allowed: "hold, alarm, clear"},
	}
}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,58}[A-Za-z0-9])?$`)

// Parse reads the alarms of a property from free-form data: a list of maps, or one map. path is where it stands, for messages; typ is the
// property's type. Its error joins one *device.FieldError for each wrong field; the alarms that are right come all the same.
func Parse(path, property string, typ device.Type, raw any) ([]*Config, error) {
	list, ok := raw.([]any)
	if !ok {
		list = []any{raw}
	}
	if len(list) > MaxPerProperty {
		return nil, &device.FieldError{Field: path, Value: fmt.Sprintf("%d entries", len(list)), Problem: "is too long", Allowed: fmt.Sprintf("up to %d alarms of a property", MaxPerProperty)}
	}
	var out []*Config
	var errs []error
	for i, entry := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		data, ok := entry.(map[string]any)
		if !ok {
			errs = append(errs, &device.FieldError{Field: at, Value: entry, Problem: "is not a map of fields", Allowed: "e.g. {name: boiler-hot, high: 80, hysteresis: 2}"})
			continue
		}
		c, err := parseOne(at, property, typ, data)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, c)
	}
	return out, errors.Join(errs...)
}

func parseOne(path, property string, typ device.Type, data map[string]any) (*Config, error) {
	f := device.NewFields(path, data)
	c := &Config{Property: property, Name: f.Text(property, "name"), When: f.Text("", "when", "condition"), Message: f.Text("", "message")}
	if !nameRule.MatchString(c.Name) {
		f.Fail("name", c.Name, "is not a name for an alarm", "letters and digits, between them - _ ., up to 60")
	}
	for _, s := range []Setpoint{{Level: AboveHighHigh}, {Level: AboveHigh}, {Level: BelowLow}, {Level: BelowLowLow}} {
		if f.Has(s.Name()) {
			s.Limit = f.Float(0, s.Name())
			c.Setpoints = append(c.Setpoints, s)
		}
	}
	c.Hysteresis = f.Float(0, "hysteresis", "deadband")
	c.OnDelay = time.Duration(f.Int(0, 0, maxDelay.Milliseconds(), "onDelay")) * time.Millisecond
	c.OffDelay = time.Duration(f.Int(0, 0, maxDelay.Milliseconds(), "offDelay")) * time.Millisecond
	c.Severity = device.Choice(f, Medium, map[string]Severity{"critical": Critical, "high": High, "medium": Medium, "low": Low, "info": Info},
		[]string{"critical", "high", "medium", "low", "info"}, "severity", "priority")
	c.OnBad = device.Choice(f, Hold, map[string]OnBad{"hold": Hold, "alarm": Raise, "clear": Clear}, []string{"hold", "alarm", "clear"}, "onBad")
	c.check(f, typ)
	return c, f.Err(Describe())
}

// check judges fields together.
func (c *Config) check(f *device.Fields, typ device.Type) {
	if len(c.Message) > maxMessage {
		f.Fail("message", c.Message, fmt.Sprintf("has %d bytes", len(c.Message)), fmt.Sprintf("up to %d", maxMessage))
	}
	if c.Hysteresis < 0 {
		f.Fail("hysteresis", c.Hysteresis, "is negative", "a number from 0")
	}
	switch {
	case c.When != "" && len(c.Setpoints) > 0:
		f.Fail("when", c.When, "stands beside "+c.Setpoints[0].Name(), "a condition or limits; two alarms for both")
	case c.When != "" && c.Hysteresis > 0:
		f.Fail("hysteresis", c.Hysteresis, "is for limits, not for a condition", "onDelay and offDelay, or a limit")
	case c.When == "" && len(c.Setpoints) == 0 && c.OnBad != Raise:
		f.Fail("high", nil, "an alarm needs a limit or a condition", "high, highHigh, low, lowLow, when, or onBad: alarm")
	case len(c.Setpoints) > 0 && !typ.Numeric():
		f.Fail(c.Setpoints[0].Name(), c.Setpoints[0].Limit, fmt.Sprintf("is a limit for numbers, and the property is %s", typ), `when, e.g. when: "door and speed > 0"`)
	}
	c.checkOrder(f)
}

// checkOrder wants lowLow ≤ low < high ≤ highHigh, with room for the hysteresis between low and high.
func (c *Config) checkOrder(f *device.Fields) {
	limit := func(l Level) (float64, bool) {
		i := slices.IndexFunc(c.Setpoints, func(s Setpoint) bool { return s.Level == l })
		if i < 0 {
			return 0, false
		}
		return c.Setpoints[i].Limit, true
	}
	hh, hasHH := limit(AboveHighHigh)
	h, hasH := limit(AboveHigh)
	l, hasL := limit(BelowLow)
	ll, hasLL := limit(BelowLowLow)
	if hasHH && hasH && hh < h {
		f.Fail("highHigh", hh, "is below high", "a number not below high")
	}
	if hasLL && hasL && ll > l {
		f.Fail("lowLow", ll, "is above low", "a number not above low")
	}
	top, hasTop := h, hasH
	if !hasTop {
		top, hasTop = hh, hasHH
	}
	bottom, hasBottom := l, hasL
	if !hasBottom {
		bottom, hasBottom = ll, hasLL
	}
	if hasTop && hasBottom && top-c.Hysteresis < bottom+c.Hysteresis {
		f.Fail("hysteresis", c.Hysteresis, "leaves no value between the limits that would clear the alarm", "low + hysteresis ≤ high − hysteresis")
	}
}
