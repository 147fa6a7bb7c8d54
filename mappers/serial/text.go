package serial

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// maxText is the longest string that becomes a value: values end in etcd.
const maxText = 4096

// textFormat is how text becomes a value.
type textFormat struct {
	typ       device.Type
	base      int    // of whole numbers: 10 or 16
	comma     bool   // the decimal separator is a comma
	trueText  string // what a BOOLEAN looks like; "" for the usual words
	falseText string
}

// value reads a piece of text.
func (f *textFormat) value(s string) (device.Value, error) {
	switch f.typ {
	case device.TypeInt, device.TypeFloat, device.TypeDouble:
		return f.number(s)
	case device.TypeBoolean:
		return f.boolean(strings.TrimSpace(s))
	case device.TypeBytes:
		if len(s) > maxText {
			return device.Value{}, fmt.Errorf("the value has %d bytes; %d at most are kept", len(s), maxText)
		}
		return device.Bytes([]byte(s)), nil
	case device.TypeString, device.TypeStream:
	}
	return textValue([]byte(s))
}

// textValue is a string without the blanks at its ends. What is not UTF-8 is replaced: Kubernetes keeps no other strings.
func textValue(p []byte) (device.Value, error) {
	s := strings.Trim(strings.ToValidUTF8(string(p), "\uFFFD"), " \t\r\n\x00")
	if len(s) > maxText {
		return device.Value{}, fmt.Errorf("the text has %d bytes; %d at most are kept", len(s), maxText)
	}
	return device.String(s), nil
}

func (f *textFormat) boolean(s string) (device.Value, error) {
	if f.trueText != "" || f.falseText != "" {
		switch s {
		case f.trueText:
			return device.Bool(true), nil
		case f.falseText:
			return device.Bool(false), nil
		}
		return device.Value{}, fmt.Errorf("%s is neither trueText nor falseText", visible([]byte(s)))
	}
	switch strings.ToLower(s) {
	case "true", "1", "on", "yes":
		return device.Bool(true), nil
	case "false", "0", "off", "no":
		return device.Bool(false), nil
	}
	return device.Value{}, fmt.Errorf("%s is neither true nor false; give trueText and falseText", visible([]byte(s)))
}

// number reads what instruments print: blanks around the sign, leading zeros, a comma.
func (f *textFormat) number(s string) (device.Value, error) {
	digits := strings.TrimSpace(s)
	if digits != "" && (digits[0] == '+' || digits[0] == '-') {
		sign := strings.TrimPrefix(digits[:1], "+")
		digits = sign + strings.TrimSpace(digits[1:])
	}
	if f.comma {
		digits = strings.Replace(digits, ",", ".", 1)
	}
	if digits == "" {
		return device.Value{}, errors.New("there is no number")
	}
	if n, err := strconv.ParseInt(digits, f.base, 64); err == nil {
		return device.Int(n), nil
	}
	if n, err := strconv.ParseUint(digits, f.base, 64); err == nil {
		return device.Uint(n), nil
	}
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) || f.base != 10 || strings.ContainsAny(digits, "xXpP_") {
		return device.Value{}, fmt.Errorf("%s is not a number", visible([]byte(s)))
	}
	return device.Float(v), nil
}
