package devices

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// deadband is how far a number must move from the last value that counted as a change to count as one again. The zero deadband
// lets every change pass.
type deadband struct {
	amount  float64
	percent bool // of the last value that counted
}

func (d deadband) given() bool { return d.amount > 0 }

// passes tells whether v counts as a change. base is the last value that did; changed tells that v differs from the last reading, and
// anew that there was none of its kind.
func (d deadband) passes(base float64, v device.Value, changed, anew bool) bool {
	if anew || !d.given() {
		return changed
	}
	limit := d.amount
	if d.percent {
		limit = math.Abs(base) * d.amount / 100
	}
	moved := math.Abs(v.AsFloat() - base)
	return moved > limit || math.IsNaN(moved) && changed
}

// parseDeadband reads the host's field deadband: a number in the property's unit, or "2%" of the range that the model gives, or of the
// value where it gives none.
func parseDeadband(value any, typ device.Type, low, high *device.Value) (deadband, error) {
	text := strings.TrimSpace(fmt.Sprint(value))
	number, percent := strings.CutSuffix(text, "%")
	amount, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	switch {
	case !typ.Numeric():
		return deadband{}, fmt.Errorf("%q: is for numbers, and the property is a %s", clip(text), typ)
	case err != nil, math.IsNaN(amount), math.IsInf(amount, 0), amount < 0:
		return deadband{}, fmt.Errorf("%q: is not a deadband; allowed: a number from 0 in the property's unit, or a percentage like \"2%%\"", clip(text))
	case percent && amount > 100:
		return deadband{}, fmt.Errorf("%q: is out of range; allowed: \"0%%\" to \"100%%\"", clip(text))
	case percent && low != nil && high != nil:
		return deadband{amount: amount / 100 * (high.AsFloat() - low.AsFloat())}, nil
	}
	return deadband{amount: amount, percent: percent}, nil
}
