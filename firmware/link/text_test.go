package link

import (
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/wire"
)

// TestClipTextCutsBetweenCharacters: a frame with half a character in it would be refused, and with it why the link ended.
func TestClipTextCutsBetweenCharacters(t *testing.T) {
	for text, want := range map[string]string{
		"short":                                  "short",
		"gr\xfc\xdfe":                            "gr?e",
		"a" + strings.Repeat("ü", 200):           "a" + strings.Repeat("ü", 127),
		"abc" + strings.Repeat("\U0001f6e2", 64): "abc" + strings.Repeat("\U0001f6e2", 63),
		strings.Repeat("x", 257):                 strings.Repeat("x", 256),
	} {
		got := clipText(text)
		if got != want {
			t.Errorf("%q became %q", text, got)
		}
		b, err := wire.Encode(&wire.Close{Code: wire.CloseProtocol, Reason: got})
		if err == nil {
			_, err = wire.Decode(b)
		}
		if err != nil {
			t.Errorf("%q: %v", got, err)
		}
	}
}
