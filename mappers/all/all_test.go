package all

import (
	"strings"
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

func TestDriversAreDistinctAndDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Drivers(Options{}) {
		names := d.Protocols()
		if len(names) == 0 {
			t.Fatalf("%T has no protocol name", d)
		}
		for _, n := range names {
			if n != strings.ToLower(n) || seen[n] {
				t.Errorf("protocol name %q is not in lower case, or claimed twice", n)
			}
			seen[n] = true
		}
		desc := d.Describe()
		for _, f := range append(append([]device.FieldDoc(nil), desc.Device...), desc.Visitor...) {
			if f.Name == "" || f.Meaning == "" || f.Default == "" || f.Allowed == "" {
				t.Errorf("%s: field %+v is not fully described", names[0], f)
			}
		}
	}
	for _, name := range []string{"modbus", "opcua", "serial"} {
		if !seen[name] {
			t.Errorf("the driver %s is not in the table", name)
		}
	}
}
