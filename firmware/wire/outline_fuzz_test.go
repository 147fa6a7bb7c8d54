package wire

import "testing"

// FuzzParseOutline: what a hello says about the agent's digest never panics, and says one thing only.
func FuzzParseOutline(f *testing.F) {
	d := DigestOf(1, []Entry{{NewKey(KindConfigMap, "default", "a", ""), BodyVersion("u", []byte{1})}})
	f.Add(d.Outline())
	f.Add([]byte(nil))
	f.Add(make([]byte, 25))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseOutline(b)
		if err != nil {
			return
		}
		if o.Differs(&d) == 0 && o.Total != d.Total() {
			t.Errorf("%x passes for a digest that it is not of", b)
		}
	})
}
