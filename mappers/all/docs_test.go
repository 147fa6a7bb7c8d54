package all

import (
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/mappers/device"
)

func manual(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/" + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestManualListsEveryField holds each protocol's page to what its driver accepts.
func TestManualListsEveryField(t *testing.T) {
	for _, d := range Drivers() {
		name := d.Protocols()[0]
		text := manual(t, name)
		desc := d.Describe()
		for _, f := range append(append([]device.FieldDoc(nil), desc.Device...), desc.Visitor...) {
			row := regexp.MustCompile("(?m)^\\| `" + f.Name + "` \\|.*$").FindString(text)
			if row == "" {
				t.Errorf("docs/%s.md has no row for field %q", name, f.Name)
			}
			for _, a := range f.Aliases {
				if !strings.Contains(row, "`"+a+"`") {
					t.Errorf("docs/%s.md does not say that %q is accepted for %q", name, a, f.Name)
				}
			}
		}
	}
}

// manifest is what the test uses of the manual's example.
type manifest struct {
	Kind string
	Spec struct {
		Protocol   yaml.Node
		Properties []struct {
			Name, Type, AccessMode string
			Visitors               struct{ ConfigData map[string]any }
		}
	}
}

// TestManualsExampleWorks gives the manual's example to the driver.
func TestManualsExampleWorks(t *testing.T) {
	text := manual(t, "devices")
	start := strings.Index(text, "```yaml\n")
	end := strings.Index(text[start+8:], "```")
	if start < 0 || end < 0 {
		t.Fatal("docs/devices.md has no example")
	}
	dec := yaml.NewDecoder(strings.NewReader(strings.NewReplacer("configData:", "configdata:", "accessMode:", "accessmode:").Replace(text[start+8 : start+8+end])))
	driver := Drivers()[0]
	types, writable, seen := map[string]device.Type{}, map[string]bool{}, 0
	for {
		var m manifest
		err := dec.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind == "DeviceModel" {
			for _, p := range m.Spec.Properties {
				typ, ok := device.ParseType(p.Type)
				if !ok {
					t.Errorf("type %q", p.Type)
				}
				types[p.Name], writable[p.Name] = typ, p.AccessMode == "ReadWrite"
			}
			continue
		}
		var protocol struct{ ConfigData map[string]any }
		if err := m.Spec.Protocol.Decode(&protocol); err != nil {
			t.Fatal(err)
		}
		if err := driver.Check(device.Config{Protocol: protocol.ConfigData}); err != nil {
			t.Error(err)
		}
		for _, p := range m.Spec.Properties {
			if types[p.Name] == 0 {
				t.Errorf("the model lacks %q", p.Name)
			}
			if _, err := driver.Compile(device.PointConfig{Property: p.Name, Type: types[p.Name], Writable: writable[p.Name], Visitor: p.Visitors.ConfigData}); err != nil {
				t.Error(err)
			}
			seen++
		}
	}
	if seen != 4 {
		t.Errorf("%d properties in the example, want 4", seen)
	}
}
