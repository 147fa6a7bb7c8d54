package pointlist

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// place is where a point lives.
type place struct {
	table  string // empty: the address does not say
	number int64  // as the list counts
	digits int    // of a plain decimal number
	last   int64  // of a range; -1 if it is none
	bit    int    // -1: none
}

var (
	prefixed = regexp.MustCompile(`^([0134])\s*[xX:]\s*([0-9]{1,6})$`)              // 4x0001, 4:0001
	named    = regexp.MustCompile(`^(HR|IR|DI|DO|CO|%MW|%IW)\s*:?\s*([0-9]{1,6})$`) // HR100
	hexed    = regexp.MustCompile(`^(?:0[xX]([0-9a-fA-F]{1,5})|([0-9a-fA-F]{1,5})[hH])$`)
	plainly  = regexp.MustCompile(`^[0-9]{1,6}$`)
	ranged   = regexp.MustCompile(`^(.*?[0-9a-fA-FhH])\s*(?:-|–|\.\.\.?|…|bis|to|~)\s*([0-9][0-9a-fA-FxXhH]*)$`)
	bitted   = regexp.MustCompile(`^(.*?)\s*[.:/]\s*(?:bit\s*)?([0-9]{1,2})$`)
)

var (
	prefixTables = map[string]string{"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
	namedTables  = map[string]string{"HR": "holding", "%MW": "holding", "IR": "input", "%IW": "input", "DI": "discrete", "DO": "coil", "CO": "coil"}
)

// addressOf reads a cell with an address.
func addressOf(s string) (place, error) {
	s = strings.TrimSpace(s)
	out := place{last: -1, bit: -1}
	if m := ranged.FindStringSubmatch(s); m != nil {
		first, err := addressOf(m[1])
		last, err2 := addressOf(m[2])
		if err != nil || err2 != nil || last.number < first.number || last.number-first.number > 200 {
			return out, fmt.Errorf("address %q is not a range of registers", clip(s))
		}
		first.last = last.number
		return first, nil
	}
	switch {
	case plainly.MatchString(s):
		n, err := strconv.ParseInt(s, 10, 64)
		out.number, out.digits = n, len(s)
		return out, err
	case prefixed.MatchString(s):
		m := prefixed.FindStringSubmatch(s)
		// 0x10 is hexadecimal, 0x00010 a coil: five digits and more are how tables are written.
		if !(m[1] == "0" && strings.ContainsAny(s, "xX") && len(m[2]) < 5) {
			n, err := strconv.ParseInt(m[2], 10, 64)
			out.table, out.number = prefixTables[m[1]], n
			return out, err
		}
	case named.MatchString(strings.ToUpper(s)):
		m := named.FindStringSubmatch(strings.ToUpper(s))
		n, err := strconv.ParseInt(m[2], 10, 64)
		out.table, out.number = namedTables[m[1]], n
		return out, err
	}
	if m := hexed.FindStringSubmatch(s); m != nil {
		n, err := strconv.ParseInt(m[1]+m[2], 16, 64)
		out.number = n
		return out, err
	}
	if m := bitted.FindStringSubmatch(s); m != nil && m[1] != s {
		inner, err := addressOf(m[1])
		bit, err2 := strconv.Atoi(m[2])
		if err == nil && err2 == nil && bit <= 15 && inner.bit < 0 && inner.last < 0 {
			inner.bit = bit
			return inner, nil
		}
	}
	return out, fmt.Errorf("address %q is not understood: 40001, 400001, 4x0001, HR100, 100, 0x64, 40001.3 and 40001-40002 are", clip(s))
}

// modicon reads the number as 40001 or 400001, whose first digit is the table.
func (p place) modicon() (table string, offset int64, ok bool) {
	if p.table != "" || p.digits < 5 {
		return "", 0, false
	}
	unit := int64(10000)
	if p.digits == 6 {
		unit = 100000
	}
	table, ok = prefixTables[strconv.FormatInt(p.number/unit, 10)]
	offset = p.number%unit - 1
	return table, offset, ok && offset >= 0 && offset <= 65535
}
