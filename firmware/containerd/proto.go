package containerd

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
)

// Protobuf's wire types (https://protobuf.dev/programming-guides/encoding/#structure).
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

var errMalformed = errors.New("containerd's answer is malformed")

// message is a protobuf message under construction. Zero values are left out, as proto3 has it.
type message []byte

func (m message) number(num int, v int64) message {
	if v == 0 {
		return m
	}
	b := binary.AppendUvarint(m, uint64(num)<<3|wireVarint) //nolint:gosec // field numbers are small
	return binary.AppendUvarint(b, uint64(v))               //nolint:gosec // negative numbers are sign-extended
}

func (m message) text(num int, s string) message {
	if s == "" {
		return m
	}
	return m.message(num, []byte(s))
}

// message appends a length-delimited field, empty or not.
func (m message) message(num int, b []byte) message {
	m = binary.AppendUvarint(m, uint64(num)<<3|wireBytes) //nolint:gosec // field numbers are small
	m = binary.AppendUvarint(m, uint64(len(b)))
	return append(m, b...)
}

func (m message) labels(num int, labels map[string]string) message {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		m = m.message(num, message{}.text(1, k).text(2, labels[k]))
	}
	return m
}

// visit calls each for every field of a message: value of numbers, data of the length-delimited. data aliases b.
func visit(b []byte, each func(num int, value uint64, data []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return errMalformed
		}
		b = b[n:]
		var value uint64
		var data []byte
		switch tag & 7 {
		case wireVarint:
			if value, n = binary.Uvarint(b); n <= 0 {
				return errMalformed
			}
			b = b[n:]
		case wireBytes:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errMalformed
			}
			data, b = b[n:n+int(size)], b[n+int(size):] //nolint:gosec // checked against the length
		case wireFixed64, wireFixed32:
			n = 8
			if tag&7 == wireFixed32 {
				n = 4
			}
			if len(b) < n {
				return errMalformed
			}
			b = b[n:]
		default:
			return errMalformed
		}
		if err := each(int(tag>>3), value, data); err != nil { //nolint:gosec // checked above
			return err
		}
	}
	return nil
}
