package main

import (
	"os"
	"testing"
)

func TestCgroupLimit(t *testing.T) {
	const v1, v2 = "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"
	for _, c := range []struct {
		path, text string
		want       int64
		ok         bool
	}{
		{v2, "536870912\n", 512 << 20, true},
		{v2, "max\n", 0, false},
		{v1, "536870912\n", 512 << 20, true},
		{v1, "9223372036854771712\n", 0, false},
		{"", "", 0, false},
		{v2, "nonsense", 0, false},
	} {
		got, ok := cgroupLimit(func(path string) ([]byte, error) {
			if path != c.path {
				return nil, os.ErrNotExist
			}
			return []byte(c.text), nil
		})
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s %q: %d %v", c.path, c.text, got, ok)
		}
	}
	if n := softLimit(1000); n != 900 {
		t.Errorf("900 of 1000 are used before garbage is collected, not %d", n)
	}
}
