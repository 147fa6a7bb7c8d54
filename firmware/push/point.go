package push

import (
	"context"
	"errors"
	"time"

	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/mappers/device"
)

// item is a value on its way to a target, with what its pushMethod says of it.
type item struct {
	history.Entry
	opt *options
}

// size is about what the item takes in memory and on the wire.
func (it *item) size() int {
	return 128 + len(it.Namespace) + len(it.Device) + len(it.Property) + it.Value.DatumSize() + len(it.Value.Reason)
}

// at is when the value was measured: by the device's own clock if its protocol tells, else by the gateway's.
func (it *item) at() time.Time {
	if !it.Value.Source.IsZero() {
		return it.Value.Source
	}
	return it.Value.Server
}

// options are the fields of a pushMethod that are the property's own, and not the target's.
type options struct {
	topic       string // MQTT
	qos         byte
	retained    bool
	measurement string // InfluxDB, TDengine; "": the device
	fieldKey    string // "": the property
	tags        string // as they stand in a line: ,a=b,c=d; "" with tagged false: namespace and device
	tagged      bool
}

// sender talks to one target, from one goroutine.
type sender interface {
	// send returns nil when the target has taken all items, a *refusal if it refuses these, and another error if it can be tried again.
	// skipped are items that the target has no form for, refused those of an answer that took the others.
	send(ctx context.Context, items []item) (tally, error)
	close()
}

// tally is what became of items that were sent without an error.
type tally struct {
	skipped, refused int
	why              string
}

// refusal is the answer of a target that would be the same however often it is asked.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refused(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// jsonDatum is the datum as encoding/json writes it; nil if there is none.
func jsonDatum(v device.Value) any {
	switch v.Kind() {
	case device.KindNone:
		return nil
	case device.KindBool:
		return v.AsBool()
	case device.KindInt:
		return v.AsInt()
	case device.KindUint:
		return v.AsUint()
	case device.KindFloat:
		if !finite(v.AsFloat()) {
			return v.Text()
		}
		return number(v.Text())
	default:
		return v.Text()
	}
}

// number is the text of a number, to be written as it is.
type number string

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) { return []byte(n), nil }

func finite(f float64) bool { return f-f == 0 }
