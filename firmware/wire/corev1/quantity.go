package corev1

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/tinylib/msgp/msgp"
)

// Quantity is an amount of a resource as Kubernetes writes it: a number with a decimal ("100m", "1.5", "2k", "1e3") or
// binary ("64Mi") suffix. The text is kept as it came; a number on the wire becomes its decimal text.
type Quantity string

// NewQuantity returns a whole amount.
func NewQuantity(v int64) Quantity { return Quantity(strconv.FormatInt(v, 10)) }

// NewMilli returns an amount given in thousandths.
func NewMilli(v int64) Quantity {
	if v%1000 == 0 {
		return NewQuantity(v / 1000)
	}
	return Quantity(strconv.FormatInt(v, 10) + "m")
}

// Value returns the amount rounded up to a whole number, limited to the range of int64.
func (q Quantity) Value() (int64, error) { return q.scaled(1) }

// Milli returns the amount in thousandths, rounded up, limited to the range of int64.
func (q Quantity) Milli() (int64, error) { return q.scaled(1000) }

// scaled returns the amount times by, rounded away from zero.
func (q Quantity) scaled(by int64) (int64, error) {
	r, err := q.rat()
	if err != nil {
		return 0, err
	}
	r.Mul(r, new(big.Rat).SetInt64(by))
	quo, rem := new(big.Int).QuoRem(r.Num(), r.Denom(), new(big.Int))
	if rem.Sign() > 0 {
		quo.Add(quo, big.NewInt(1))
	} else if rem.Sign() < 0 {
		quo.Sub(quo, big.NewInt(1))
	}
	switch {
	case quo.IsInt64():
		return quo.Int64(), nil
	case quo.Sign() < 0:
		return math.MinInt64, nil
	default:
		return math.MaxInt64, nil
	}
}

// rat parses the text: sign, digits with at most one point, suffix. The grammar is the one of
// k8s.io/apimachinery/pkg/api/resource, with its length held to 64 and exponents to ±24.
func (q Quantity) rat() (*big.Rat, error) {
	s := string(q)
	bad := func(why string) (*big.Rat, error) { return nil, fmt.Errorf("quantity %q: %s", clip(s), why) }
	if s == "" || len(s) > 64 {
		return bad("must have 1 to 64 characters")
	}
	end := len(s)
	for i, c := range s {
		if (c < '0' || c > '9') && c != '.' && !(i == 0 && (c == '+' || c == '-')) {
			end = i
			break
		}
	}
	number, suffix := s[:end], s[end:]
	if strings.Count(number, ".") > 1 || !strings.ContainsAny(number, "0123456789") {
		return bad("is not a number with a suffix such as 100m or 64Mi")
	}
	if strings.HasPrefix(strings.TrimLeft(number, "+-"), ".") {
		number = strings.Replace(number, ".", "0.", 1)
	}
	r, ok := new(big.Rat).SetString(strings.TrimSuffix(number, "."))
	if !ok {
		return bad("is not a number with a suffix such as 100m or 64Mi")
	}
	scale, err := multiplier(suffix)
	if err != nil {
		return bad(err.Error())
	}
	return r.Mul(r, scale), nil
}

// multiplier returns what a suffix stands for.
func multiplier(suffix string) (*big.Rat, error) {
	const decimal, binary = "num kMGTPE", "KMGTPE"
	if base, ok := strings.CutSuffix(suffix, "i"); ok && len(base) == 1 {
		if i := strings.Index(binary, base); i >= 0 {
			return new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(10*(i+1)))), nil //nolint:gosec // i is 0 to 5
		}
	}
	exponent := 0
	switch i := strings.Index(decimal, suffix); {
	case suffix == "":
	case len(suffix) == 1 && suffix != " " && i >= 0:
		exponent = (i - 3) * 3
	case suffix[0] == 'e' || suffix[0] == 'E':
		e, err := strconv.Atoi(suffix[1:])
		if err != nil || e < -24 || e > 24 {
			return nil, fmt.Errorf("exponent %q must be a number from -24 to 24", clip(suffix))
		}
		exponent = e
	default:
		return nil, fmt.Errorf("unknown suffix %q", clip(suffix))
	}
	pow := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil)
	if exponent < 0 {
		return new(big.Rat).SetFrac(big.NewInt(1), pow), nil
	}
	return new(big.Rat).SetInt(pow), nil
}

// MarshalMsg appends the text.
func (q Quantity) MarshalMsg(b []byte) ([]byte, error) { return msgp.AppendString(b, string(q)), nil }

// UnmarshalMsg reads a text or a number, and refuses what is not a quantity.
func (q *Quantity) UnmarshalMsg(b []byte) ([]byte, error) {
	var s string
	var rest []byte
	var err error
	switch msgp.NextType(b) {
	case msgp.IntType, msgp.UintType:
		var i int64
		i, rest, err = msgp.ReadInt64Bytes(b)
		s = strconv.FormatInt(i, 10)
	case msgp.Float64Type, msgp.Float32Type:
		var f float64
		f, rest, err = msgp.ReadFloat64Bytes(b)
		s = strconv.FormatFloat(f, 'f', -1, 64)
	default:
		s, rest, err = msgp.ReadStringBytes(b)
	}
	if err != nil {
		return b, err
	}
	if _, err := Quantity(s).rat(); err != nil {
		return b, err
	}
	*q = Quantity(s)
	return rest, nil
}

// Msgsize returns an upper bound of the encoded size in bytes.
func (q Quantity) Msgsize() int { return msgp.StringPrefixSize + len(q) }
