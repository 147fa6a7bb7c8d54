package opcua

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
)

// sampling is how a value is watched.
type sampling struct {
	publishing time.Duration // 0: as often as the property is read
	sampling   time.Duration // below 0: as publishing
	queue      uint32
	oldest     bool
	trigger    ua.DataChangeTrigger
	deadband   float64
	percent    bool
}

// defaultSampling is for what the configuration leaves open.
var defaultSampling = sampling{queue: 1, oldest: true, trigger: ua.DataChangeTriggerStatusValue, sampling: -1}

// Fields of an override that are given.
const (
	givenPublishing = 1 << iota
	givenSampling
	givenQueue
	givenOldest
	givenTrigger
	givenDeadband
)

// override is what a visitor says of sampling, over what its device says. It is comparable.
type override struct {
	given uint8
	sampling
}

var samplingFields = []struct {
	name string
	bit  uint8
}{
	{"publishingInterval", givenPublishing}, {"samplingInterval", givenSampling}, {"queueSize", givenQueue},
	{"discardOldest", givenOldest}, {"trigger", givenTrigger}, {"deadband", givenDeadband},
}

// parseOverride reads the sampling fields of a visitor.
func parseOverride(f *device.Fields) override {
	var o override
	for _, field := range samplingFields {
		if f.Has(field.name) {
			o.given |= field.bit
		}
	}
	if o.given != 0 {
		o.sampling = parseSampling(f, defaultSampling)
	}
	return o
}

// over is what is left of a device's sampling.
func (o override) over(def sampling) sampling {
	if o.given&givenPublishing != 0 {
		def.publishing = o.publishing
	}
	if o.given&givenSampling != 0 {
		def.sampling = o.sampling.sampling
	}
	if o.given&givenQueue != 0 {
		def.queue = o.queue
	}
	if o.given&givenOldest != 0 {
		def.oldest = o.oldest
	}
	if o.given&givenTrigger != 0 {
		def.trigger = o.trigger
	}
	if o.given&givenDeadband != 0 {
		def.deadband, def.percent = o.deadband, o.percent
	}
	return def
}

// String says what is overridden: a point that is watched in another way is another point.
func (o override) String() string {
	var b strings.Builder
	for i, v := range []any{o.publishing, o.sampling.sampling, o.queue, o.oldest, uint32(o.trigger), o.deadband} {
		if o.given&samplingFields[i].bit == 0 {
			continue
		}
		fmt.Fprintf(&b, ", %s %v", samplingFields[i].name, v)
		if samplingFields[i].bit == givenDeadband && o.percent {
			b.WriteByte('%')
		}
	}
	return b.String()
}

// parseSampling reads how values are watched, over what is the default.
func parseSampling(f *device.Fields, def sampling) sampling {
	s := def
	if f.Has("publishingInterval") {
		s.publishing = millis(f, 0, 10, 3600000, "publishingInterval")
	}
	if f.Has("samplingInterval") {
		s.sampling = millis(f, 0, 0, 3600000, "samplingInterval")
	}
	s.queue = uint32(f.Int(int64(def.queue), 1, 10000, "queueSize"))
	s.oldest = f.Bool(def.oldest, "discardOldest")
	s.trigger = device.Choice(f, def.trigger, triggerWords, triggerText, "trigger")
	if text := f.Text("", "deadband"); text != "" {
		s.deadband, s.percent = parseDeadband(f, text)
	}
	return s
}

func parseDeadband(f *device.Fields, text string) (float64, bool) {
	number, percent := strings.CutSuffix(text, "%")
	v, err := device.Parse(strings.TrimSpace(number), device.TypeDouble)
	n := v.AsFloat()
	if err != nil || !(n >= 0) || math.IsInf(n, 0) || percent && n > 100 {
		f.Fail("deadband", text, "is not a deadband", "a number of the value's unit, or 0% to 100% of the value's range")
		return 0, false
	}
	return n, percent
}

// sampling is how a point is watched.
func (s *session) sampling(p *point) sampling {
	h := p.extra().how.over(s.config.defaults)
	if h.publishing == 0 {
		if h.publishing = min(p.every(), maxPublishing); h.publishing == 0 {
			h.publishing = defaultPublishing
		}
	}
	if h.sampling < 0 {
		h.sampling = h.publishing
	}
	return h
}

// filter is what the server is asked to leave out; nil for nothing.
func (h sampling) filter(deadband bool) *ua.DataChangeFilter {
	f := &ua.DataChangeFilter{Trigger: h.trigger}
	switch {
	case !deadband || h.deadband == 0:
		if h.trigger == ua.DataChangeTriggerStatusValue || !deadband {
			return nil
		}
	case h.percent:
		f.DeadbandType, f.DeadbandValue = uint32(ua.DeadbandTypePercent), h.deadband
	default:
		f.DeadbandType, f.DeadbandValue = uint32(ua.DeadbandTypeAbsolute), h.deadband
	}
	return f
}
