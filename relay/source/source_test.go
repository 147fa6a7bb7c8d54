package source_test

import (
	"testing"

	"github.com/skerry/skerry/relay/source"
)

func TestOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1":               "192.0.2.7",
		"[::ffff:192.0.2.7]:1":      "192.0.2.7",
		"[2001:db8:0:1::1]:1":       "2001:db8:0:1::/64",
		"[2001:db8:0:1:f::ffff]:22": "2001:db8:0:1::/64",
		"[fe80::1%eth0]:1":          "fe80::/64",
		"[::1]:1":                   "::1",
		"gateway:1":                 "gateway",
		"@":                         "@",
		"":                          "",
	} {
		if got := source.Of(remote); got != want {
			t.Errorf("Of(%q) = %q, want %q", remote, got, want)
		}
	}
}
