package pointlist

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Names are the names of the manifests.
type Names struct {
	Namespace string // empty: default
	Model     string
	Device    string // empty: that of the model
	Node      string // empty: has to be filled in
	Protocol  map[string]any
	Note      string // goes into a comment at the top
}

var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

type meta struct {
	Name      string `yaml:"name"`
	Namespace string `yaml:"namespace"`
}

type modelProperty struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description,omitempty"`
	Type        string `yaml:"type"`
	AccessMode  string `yaml:"accessMode"`
	Minimum     string `yaml:"minimum,omitempty"`
	Maximum     string `yaml:"maximum,omitempty"`
	Unit        string `yaml:"unit,omitempty"`
}

type model struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   meta   `yaml:"metadata,flow"`
	Spec       struct {
		Protocol   string          `yaml:"protocol"`
		Properties []modelProperty `yaml:"properties"`
	} `yaml:"spec"`
}

type visitor struct {
	ProtocolName string         `yaml:"protocolName"`
	ConfigData   map[string]any `yaml:"configData"`
}

type deviceProperty struct {
	Name         string  `yaml:"name"`
	CollectCycle int64   `yaml:"collectCycle,omitempty"`
	Visitors     visitor `yaml:"visitors,flow"`
}

type deviceObject struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   meta   `yaml:"metadata,flow"`
	Spec       struct {
		Model      map[string]string `yaml:"deviceModelRef,flow"`
		NodeName   string            `yaml:"nodeName"`
		Protocol   visitor           `yaml:"protocol,flow"`
		Properties []deviceProperty  `yaml:"properties"`
	} `yaml:"spec"`
}

const apiVersion = "devices.kubeedge.io/v1beta1"

// Manifests writes a DeviceModel and a Device. A list with several stations becomes one pair for each of them, whose names end with
// the station's number.
func Manifests(l *List, n Names) ([]byte, error) {
	if n.Namespace == "" {
		n.Namespace = "default"
	}
	if n.Device == "" {
		n.Device = n.Model
	}
	for what, name := range map[string]string{"model": n.Model, "device": n.Device, "namespace": n.Namespace} {
		if !objectName.MatchString(name) || len(name) > 200 {
			return nil, fmt.Errorf("%s %q: a name of lower-case letters, digits, '-' and '.' is needed", what, name)
		}
	}
	if len(l.Points) == 0 {
		return nil, errors.New("there are no points")
	}
	stations := map[int][]Point{}
	for _, p := range l.Points {
		stations[p.Station] = append(stations[p.Station], p)
	}
	var b bytes.Buffer
	for _, text := range append([]string{n.Note}, l.Notes...) {
		if text != "" {
			fmt.Fprintf(&b, "# %s\n", strings.Map(comment, text))
		}
	}
	if n.Node == "" {
		b.WriteString("# spec.nodeName has to be filled in: the gateway that the device is connected to\n")
	}
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	for _, station := range slices.Sorted(maps.Keys(stations)) {
		own := n
		if len(stations) > 1 {
			suffix := fmt.Sprintf("-%d", station)
			if station < 0 {
				suffix = "-other"
			}
			own.Model, own.Device = n.Model+suffix, n.Device+suffix
		}
		m, d := pair(l, own, station, stations[station])
		if err := errors.Join(enc.Encode(m), enc.Encode(d)); err != nil {
			return nil, fmt.Errorf("encode the manifests: %w", err)
		}
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("encode the manifests: %w", err)
	}
	return b.Bytes(), nil
}

// comment keeps a text within the line of its comment.
func comment(r rune) rune {
	if r < ' ' || r == 0x7F || r == 0x85 || r == 0x2028 || r == 0x2029 {
		return ' '
	}
	return r
}

func pair(l *List, n Names, station int, points []Point) (model, deviceObject) {
	m := model{APIVersion: apiVersion, Kind: "DeviceModel", Metadata: meta{n.Model, n.Namespace}}
	m.Spec.Protocol = l.Protocol
	d := deviceObject{APIVersion: apiVersion, Kind: "Device", Metadata: meta{n.Device, n.Namespace}}
	d.Spec.Model, d.Spec.NodeName = map[string]string{"name": n.Model}, n.Node
	config := map[string]any{}
	maps.Copy(config, l.Config)
	maps.Copy(config, n.Protocol)
	if station >= 0 {
		config["slaveID"] = station
	}
	d.Spec.Protocol = visitor{l.Protocol, config}
	for _, p := range points {
		access := "ReadOnly"
		if p.Writable {
			access = "ReadWrite"
		}
		m.Spec.Properties = append(m.Spec.Properties, modelProperty{Name: p.Name, Description: p.Description, Type: p.Type, AccessMode: access,
			Minimum: p.Minimum, Maximum: p.Maximum, Unit: p.Unit})
		d.Spec.Properties = append(d.Spec.Properties, deviceProperty{Name: p.Name, CollectCycle: p.Cycle, Visitors: visitor{l.Protocol, p.Visitor}})
	}
	return m, d
}
