package update

import (
	"slices"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	order := []string{"", "0.9", "1.0~rc1", "1.0~rc2", "1.0", "1.0-1-gabc", "1.0-2-g111", "1.0.1", "1.2", "1.10", "1.10a", "2", "10.0"}
	for i, a := range order {
		for j, b := range order {
			if got, want := compareVersions(a, b), sign(i-j); got != want {
				t.Errorf("compareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
	if compareVersions("1.02", "1.2") != 0 || compareVersions("v1.2", "v1.02") != 0 {
		t.Error("leading zeros count")
	}
	if !slices.IsSortedFunc(order, compareVersions) {
		t.Error("the versions are not in order")
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0~rc1", "1.0")
	f.Fuzz(func(t *testing.T, a, b string) {
		if compareVersions(a, b) != -compareVersions(b, a) || compareVersions(a, a) != 0 {
			t.Errorf("%q and %q: no order", a, b)
		}
	})
}
