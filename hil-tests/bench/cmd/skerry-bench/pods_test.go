package main

import (
	"math"
	"testing"
)

func TestSlope(t *testing.T) {
	if got := slope([]float64{0, 1, 2, 3}, []float64{10, 12.5, 14.5, 17}); math.Abs(got-2.3) > 1e-9 {
		t.Errorf("slope %v, want 2.3", got)
	}
	if got := slope([]float64{1, 2, 3}, []float64{7, 7, 7}); got != 0 {
		t.Errorf("slope of a constant: %v", got)
	}
}
