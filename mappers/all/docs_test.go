package all

import (
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
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
	for _, d := range Drivers(Options{}) {
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

// TestManualsExamplesWork gives every device of the manual to its driver.
func TestManualsExamplesWork(t *testing.T) {
	for _, page := range []struct {
		name       string
		properties int
	}{{"devices", 4}, {"opcua", 4}, {"serial", 3 + 4 + 4}} {
		seen := 0
		for _, block := range regexp.MustCompile("(?s)```yaml\n(apiVersion:.*?)```").FindAllStringSubmatch(manual(t, page.name), -1) {
			seen += checkExample(t, block[1])
		}
		if seen != page.properties {
			t.Errorf("%d properties in the examples of docs/%s.md, want %d", seen, page.name, page.properties)
		}
	}
}

func driverOf(t *testing.T, protocol string) device.Driver {
	t.Helper()
	for _, d := range Drivers(Options{}) {
		if slices.Contains(d.Protocols(), protocol) {
			return d
		}
	}
	t.Fatalf("no driver for %q", protocol)
	return nil
}

// checkExample gives a model and its device to the device's driver, and returns how many properties it has.
func checkExample(t *testing.T, text string) int {
	t.Helper()
	dec := yaml.NewDecoder(strings.NewReader(strings.NewReplacer("configData:", "configdata:", "accessMode:", "accessmode:", "protocolName:", "protocolname:").Replace(text)))
	types, writable, seen := map[string]device.Type{}, map[string]bool{}, 0
	for {
		var m manifest
		err := dec.Decode(&m)
		if errors.Is(err, io.EOF) {
			return seen
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
		var protocol struct {
			ProtocolName string
			ConfigData   map[string]any
		}
		if err := m.Spec.Protocol.Decode(&protocol); err != nil {
			t.Fatal(err)
		}
		driver := driverOf(t, protocol.ProtocolName)
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
}
