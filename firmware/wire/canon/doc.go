// Package canon is the canonical encoding of JSON values as MessagePack: equal values have equal bytes, so a hash of the
// bytes is a version of the value, and the bytes turn back into an equal JSON value.
//
// # Encoding
//
//   - null, false, true: nil, false, true.
//   - A number written without fraction and exponent that fits int64 or uint64: the shortest MessagePack integer, unsigned
//     family for ≥ 0 (fixint, uint 8 … uint 64), signed for < 0. Negative zero written "-0" is 0.
//   - Any other number: float 64, nearest value; "1.0" therefore stays a float and comes back as 1.0. Numbers beyond
//     float 64's range, and NaN and infinities (which JSON lacks), are refused.
//   - string: str with the shortest header; must be UTF-8 when decoded. encoding/json replaces invalid bytes on the way in.
//   - array: array with the shortest header. object: map with the shortest header, keys are strings in ascending byte
//     order, each once. A key that occurs twice in JSON text counts with its last value, as in Kubernetes.
//   - Nothing else: no bin, no ext, no float 32.
//
// Decoding is strict. What Check, ToJSON and ToValue accept is exactly what this package writes: unsorted or repeated keys,
// a longer header than needed, trailing bytes and invalid UTF-8 are errors. So nobody can make two versions of one value,
// nor smuggle in a key that one reader sees and another one does not.
//
// # Limits
//
// Nesting is at most MaxDepth, a document at most MaxSize bytes on either side. Decoding checks every declared length
// against the bytes that are really there before it takes memory.
//
// # Use
//
// All functions are pure and safe for concurrent use; results never alias arguments. Values follow the conventions of
// Kubernetes' unstructured content: map[string]any, []any, string, bool, nil, int64, float64, and uint64 only for integers
// that int64 cannot hold.
//
// Tests: golden vectors in testdata/canon.txt, round trips over generated values, and fuzzers for both directions.
package canon
