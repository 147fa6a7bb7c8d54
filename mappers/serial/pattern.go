package serial

import (
	"fmt"
	"regexp"

	"github.com/skerry/skerry/mappers/device"
)

// patternParser takes a group of a regular expression (RE2: linear in the frame's length, whatever the pattern).
type patternParser struct {
	pattern *regexp.Regexp
	group   int
	text    textFormat
}

const maxPattern = 512

func (p *patternParser) String() string {
	return fmt.Sprintf("group %d of pattern %s", p.group, p.pattern)
}

func (p *patternParser) parse(m *message) (device.Value, error) {
	at := p.pattern.FindSubmatchIndex(m.raw)
	if at == nil {
		return device.Value{}, other("%s does not match the pattern", visible(m.raw))
	}
	if at[2*p.group] < 0 {
		return device.Value{}, fmt.Errorf("group %d of the pattern matches nothing in %s", p.group, visible(m.raw))
	}
	return p.text.value(string(m.raw[at[2*p.group]:at[2*p.group+1]]))
}

// compilePattern compiles a pattern whose dot matches any byte.
func compilePattern(s string) (*regexp.Regexp, error) {
	if len(s) > maxPattern {
		return nil, fmt.Errorf("is longer than %d bytes", maxPattern)
	}
	re, err := regexp.Compile("(?s)" + s)
	if err != nil {
		return nil, fmt.Errorf("is not a regular expression (RE2): %w", err)
	}
	return re, nil
}

// pickGroup finds the group of the value: by name or number; without either, the one called value, the first, or the whole match.
func pickGroup(re *regexp.Regexp, name string) (int, bool) {
	if name == "" {
		if n := re.SubexpIndex("value"); n >= 0 {
			return n, true
		}
		return min(1, re.NumSubexp()), true
	}
	if n := re.SubexpIndex(name); n >= 0 {
		return n, true
	}
	var n int
	if _, err := fmt.Sscanf(name+";", "%d;", &n); err != nil || n < 0 || n > re.NumSubexp() {
		return 0, false
	}
	return n, true
}
