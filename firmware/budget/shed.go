package budget

import "time"

// Level is how much the agent does without. Each level includes those below it.
type Level int

// The levels, in the order in which they are taken.
const (
	Everything Level = iota // nothing is shed
	History                 // fewer device values wait for the disk
	Logs                    // nobody follows a container's log
	Pulls                   // no image is pulled
	Polls                   // devices are polled half as often
)

// levels describe what each level does without, for people, and from which share of the heap's limit on.
var levels = [...]struct {
	name, text string
	from       float64
}{
	{"", "", 0},
	{"HistoryDepth", "fewer device values wait for the disk", 0.70},
	{"LogStreams", "logs are not followed", 0.78},
	{"ImagePulls", "images are not pulled", 0.86},
	{"PollRates", "devices are polled half as often", 0.92},
}

// Most is the last level.
const Most = Polls

// String is the level's name in conditions and metrics.
func (l Level) String() string { return levels[l].name }

// Text says what is done without at this level, all levels below included.
func (l Level) Text() string {
	text := ""
	for i := History; i <= l; i++ {
		if text != "" {
			text += ", "
		}
		text += levels[i].text
	}
	return text
}

// From is the share of the heap's limit from which the level is taken.
func (l Level) From() float64 { return levels[l].from }

const (
	// hysteresis is how far below its threshold use has to be for a level to end …
	hysteresis = 0.08
	// … and calm for how long. What was shed comes back in reverse, one level at a time.
	calm = time.Minute
	// lasting is how long use has to be above the threshold of Pulls or Polls before they are shed, for which people notice: a burst is over by then.
	lasting = time.Minute
)

// Shedder decides what is shed. The zero value sheds nothing.
type Shedder struct {
	level Level
	low   time.Time // since when use is low enough for the level below; zero: it is not
	high  time.Time // since when it is high enough for the level above; zero: it is not
}

// Step is told how much of the heap's limit is in use (0 to 1 and above) and returns the level from now on. It rises by one level at each call,
// so that what has been shed can take effect before more is; to Pulls and to Polls only after a minute in which use was that high.
func (s *Shedder) Step(use float64, now time.Time) Level {
	switch {
	case s.level < Most && use >= levels[s.level+1].from:
		s.low = time.Time{}
		if past(&s.high, now) >= lasting || s.level+1 < Pulls {
			s.level++
			s.high = time.Time{}
		}
	case s.level > Everything && use < levels[s.level].from-hysteresis:
		s.high = time.Time{}
		if past(&s.low, now) >= calm {
			s.level--
			s.low = time.Time{}
		}
	default:
		s.low, s.high = time.Time{}, time.Time{}
	}
	return s.level
}

// past returns how long it has been so since *since, which it sets if it is zero, or if the clock was set back.
func past(since *time.Time, now time.Time) time.Duration {
	if since.IsZero() || now.Before(*since) {
		*since = now
	}
	return now.Sub(*since)
}
