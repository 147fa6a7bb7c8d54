package uabin

import "reflect"

// length is how many elements an array's V has.
func length(v any) int {
	if v == nil {
		return 0
	}
	return reflect.ValueOf(v).Len()
}

// Len is how many elements an array has; 0 for a scalar.
func (v Variant) Len() int {
	if !v.Array {
		return 0
	}
	return length(v.V)
}

// At returns element i of an array as a scalar of its own.
func (v Variant) At(i int) Variant {
	return Variant{Type: v.Type, V: reflect.ValueOf(v.V).Index(i).Interface()}
}
