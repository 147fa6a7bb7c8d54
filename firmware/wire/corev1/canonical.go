package corev1

import (
	"fmt"

	"github.com/tinylib/msgp/msgp"

	"github.com/skerry/skerry/firmware/wire/canon"
)

// Canonical returns the canonical encoding of a document (package canon), as reports must be. MarshalMsg alone is
// deterministic, but writes integers in their signed forms, where the canonical form of what is not negative is unsigned.
func Canonical(doc msgp.Marshaler) ([]byte, error) {
	b, err := doc.MarshalMsg(nil)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", doc, err)
	}
	v, _, err := msgp.ReadIntfBytes(b)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", doc, err)
	}
	return canon.FromValue(v)
}
