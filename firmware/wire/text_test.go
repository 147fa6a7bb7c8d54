package wire

import (
	"strings"
	"testing"
)

// TestClipTextCutsBetweenCharacters: a frame with half a character in it would be refused, and with it why the sender ended it.
func TestClipTextCutsBetweenCharacters(t *testing.T) {
	for text, want := range map[string]string{
		"short":                                  "short",
		"gr\xfc\xdfe":                            "gr?e",
		"a" + strings.Repeat("ü", 200):           "a" + strings.Repeat("ü", 127),
		"abc" + strings.Repeat("\U0001f6e2", 64): "abc" + strings.Repeat("\U0001f6e2", 63),
		strings.Repeat("x", 257):                 strings.Repeat("x", 256),
	} {
		got := ClipText(text, 256)
		if got != want {
			t.Errorf("%q became %q", text, got)
		}
		b, err := Encode(&Close{Code: CloseProtocol, Reason: got})
		if err == nil {
			_, err = Decode(b)
		}
		if err != nil {
			t.Errorf("%q: %v", got, err)
		}
	}
}
