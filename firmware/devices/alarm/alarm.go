package alarm

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Alarm is one alarm with its state.
type Alarm struct {
	cfg     *Config
	latches []latch // one for each setpoint, or one for the condition
	bad     latch   // the quality is bad
	level   Level
	since   time.Time
	text    string
}

// latch is one setpoint: it closes after the on-delay and opens after the off-delay.
type latch struct {
	on      bool
	pending time.Time // since when it should be the other way; zero: it should not
}

// Transition is a change of an alarm's level.
type Transition struct {
	From, To Level
	Since    time.Time // when the alarm left Normal
	Text     string    // the value
}

// Graver tells whether the alarm was raised or got worse; otherwise it got better.
func (t Transition) Graver() bool { return t.To > t.From }

// New returns an alarm that goes on from a record; the zero Record is normal. A level that the configuration no longer has starts as
// normal, without a transition.
func New(cfg *Config, r Record) *Alarm {
	a := &Alarm{cfg: cfg, latches: make([]latch, max(1, len(cfg.Setpoints)))}
	level := Level(r.Level)
	switch {
	case level == Normal || level > AboveHighHigh:
		return a
	case level == BadQuality && cfg.OnBad == Raise:
		a.bad.on = true
	case level == Active && cfg.When != "":
		a.latches[0].on = true
	default:
		for i, s := range cfg.Setpoints {
			a.latches[i].on = s.high() == (Setpoint{Level: level}).high() && s.Level <= level && level >= BelowLow
		}
	}
	if a.level = a.gravest(); a.level != Normal {
		a.since, a.text = r.Since, r.Text
	}
	return a
}

// Config returns what the alarm was made with.
func (a *Alarm) Config() *Config { return a.cfg }

// Level returns the level and since when it is not Normal.
func (a *Alarm) Level() (Level, time.Time) { return a.level, a.since }

// Record returns what is to be kept.
func (a *Alarm) Record() Record {
	return Record{Name: a.cfg.Name, Level: uint8(a.level), Since: a.since, Text: a.text}
}

// Update takes over a value: the property's for an alarm with setpoints, the condition's for one with a condition. It is called again
// with the same value when a delay ends (Due).
func (a *Alarm) Update(v device.Value, now time.Time) (Transition, bool) {
	bad := v.Quality == device.Bad || v.Kind() == device.KindNone
	a.bad.set(bad && a.cfg.OnBad == Raise, a.cfg, now)
	for i := range a.latches {
		l := &a.latches[i]
		switch {
		case !bad:
			l.set(a.holds(i, v), a.cfg, now)
		case a.cfg.OnBad == Clear:
			l.set(false, a.cfg, now)
		default:
			l.pending = time.Time{} // a delay does not run while nobody knows the value
		}
	}
	to := a.gravest()
	if to == a.level {
		return Transition{}, false
	}
	t := Transition{From: a.level, To: to, Since: a.since}
	if a.level == Normal {
		t.Since = now
	}
	if a.text = v.Text(); bad {
		a.text = v.Reason
	}
	t.Text = a.text
	if a.level, a.since = to, t.Since; to == Normal {
		a.since, a.text = time.Time{}, ""
	}
	return t, true
}

// holds tells whether the i-th latch should be closed.
func (a *Alarm) holds(i int, v device.Value) bool {
	if len(a.cfg.Setpoints) == 0 {
		return a.cfg.When != "" && v.Kind() == device.KindBool && v.AsBool()
	}
	s, f, slack := a.cfg.Setpoints[i], v.AsFloat(), 0.0
	if a.latches[i].on {
		slack = a.cfg.Hysteresis
	}
	if s.high() {
		return f > s.Limit-slack
	}
	return f < s.Limit+slack
}

func (l *latch) set(want bool, cfg *Config, now time.Time) {
	if want == l.on {
		l.pending = time.Time{}
		return
	}
	if l.pending.IsZero() {
		l.pending = now
	}
	if now.Sub(l.pending) >= l.delay(cfg) {
		l.on, l.pending = want, time.Time{}
	}
}

func (l *latch) delay(cfg *Config) time.Duration {
	if l.on {
		return cfg.OffDelay
	}
	return cfg.OnDelay
}

func (a *Alarm) gravest() Level {
	out := Normal
	if a.bad.on {
		out = BadQuality
	}
	for i, l := range a.latches {
		if !l.on {
			continue
		}
		level := Active
		if i < len(a.cfg.Setpoints) {
			level = a.cfg.Setpoints[i].Level
		}
		out = max(out, level)
	}
	return out
}

// Due returns when the next delay ends, zero if none runs.
func (a *Alarm) Due() time.Time {
	out := a.bad.due(a.cfg, time.Time{})
	for i := range a.latches {
		out = a.latches[i].due(a.cfg, out)
	}
	return out
}

func (l *latch) due(cfg *Config, other time.Time) time.Time {
	if l.pending.IsZero() {
		return other
	}
	if at := l.pending.Add(l.delay(cfg)); other.IsZero() || at.Before(other) {
		return at
	}
	return other
}

// Describe says in words why the alarm is at a level: "93.2 °C is above highHigh 90".
func (c *Config) Describe(level Level, text, unit string) string {
	if unit != "" {
		unit = " " + unit
	}
	switch level {
	case Normal:
		return fmt.Sprintf("property %q is normal", c.Property)
	case BadQuality:
		return fmt.Sprintf("the quality of property %q is bad: %s", c.Property, clip(text))
	case Active:
		return fmt.Sprintf("%s holds", clip(c.When))
	}
	word := "below"
	if (Setpoint{Level: level}).high() {
		word = "above"
	}
	out := fmt.Sprintf("%s%s is %s %s", clip(text), unit, word, Setpoint{Level: level}.Name())
	for _, s := range c.Setpoints {
		if s.Level == level {
			out += " " + strconv.FormatFloat(s.Limit, 'g', -1, 64)
		}
	}
	return out
}

func clip(s string) string {
	if len(s) > 120 {
		return strings.ToValidUTF8(s[:120], "") + "…"
	}
	return s
}
