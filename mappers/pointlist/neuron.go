package pointlist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// Neuron's exports (its HTTP API, version 2): GET /api/v2/tags and /api/v2/global/config, and the bodies of /api/v2/gtags and
// /api/v2/global/drivers. A tag has name, address, type and attribute (numbers, or words in tables), and decimal, the multiplier.

// neuronTypes are the numbers of its data types.
var neuronTypes = map[string]string{"1": "int8", "2": "uint8", "3": "int16", "4": "uint16", "5": "int32", "6": "uint32", "7": "int64", "8": "uint64", "9": "float", "10": "double",
	"11": "bool", "12": "bool", "13": "string", "14": "bytes", "16": "uint16", "17": "uint32", "18": "uint64"}

// neuronAddress is its address of a Modbus tag: SLAVE!ADDRESS[.BIT or .LENGTH[H|L|D|E]][#ORDER].
var neuronAddress = regexp.MustCompile(`^([0-9]{1,3})!([0-9]{5,6})(?:\.([0-9]{1,3})([HLDE]?))?(?:#([BL]{1,2}))?(?:\.([0-9]{1,3})([HLDE]?))?$`)

// neuronOPC is its address of an OPC UA tag: NAMESPACE!IDENTIFIER.
var neuronOPC = regexp.MustCompile(`^([0-9]{1,5})!(.+)$`)

// isNeuron tells an address of Neuron from others.
func isNeuron(address string) bool { return neuronAddress.MatchString(strings.TrimSpace(address)) }

// neuronCells says in the words of other lists what an address of Neuron says.
func neuronCells(s cellSet) (cellSet, error) {
	m := neuronAddress.FindStringSubmatch(strings.TrimSpace(s.get("address")))
	typ := s.get("type")
	if t, ok := neuronTypes[typ]; ok {
		typ = t
	}
	part, how := m[3]+m[6], m[4]+m[7]
	if m[3] != "" && m[6] != "" {
		return s, fmt.Errorf("address %q has two lengths", s.get("address"))
	}
	over := map[string]string{"address": m[2], "station": m[1], "type": typ, "order": m[5], "bit": "", "length": "", "table": ""}
	switch m[5] {
	case "B":
		over["order"] = "BA"
	case "L":
		over["order"] = "AB"
	}
	if t, ok := typeOf(typ); ok && t.width == 0 {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return s, fmt.Errorf("address %q: a %s needs its length in bytes behind a point", s.get("address"), t.visitor)
		}
		if how == "D" || how == "E" {
			return s, fmt.Errorf("address %q: strings with one character in each register (%s) cannot be read", s.get("address"), how)
		}
		over["length"] = strconv.Itoa((n + 1) / 2)
		if how == "L" || how == "" && t.visitor == "string" {
			over["order"] = "BA"
		}
	} else {
		over["bit"] = part
	}
	if f, ok := number(s.get("scale"), false); ok && f == 0 {
		over["scale"] = ""
	}
	return cellSet{line: s.line, get: func(column string) string {
		if v, ok := over[column]; ok {
			return v
		}
		return s.get(column)
	}}, nil
}

// lineKey is where decodeLines notes an object's line: no JSON key has a zero byte in it by accident.
const lineKey = "\x00line"

const maxNesting = 32

// lineDecoder decodes JSON and notes in which line each object begins.
type lineDecoder struct {
	*json.Decoder
	data []byte
	at   int64 // up to here the lines are counted
	line int
}

func decodeLines(data []byte) (any, error) {
	d := &lineDecoder{Decoder: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	d.UseNumber()
	v, err := d.value(0)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", d.line, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: there is something behind the end of the document", d.line)
	}
	return v, nil
}

func (d *lineDecoder) value(depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	if off := d.InputOffset(); off > d.at {
		d.line += bytes.Count(d.data[d.at:off], []byte{'\n'})
		d.at = off
	}
	delim, ok := token.(json.Delim)
	switch {
	case !ok:
		return token, nil
	case depth > maxNesting:
		return nil, fmt.Errorf("it is nested more than %d deep", maxNesting)
	case delim == '[':
		out := []any{}
		for d.More() {
			v, err := d.value(depth + 1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		_, err := d.Token()
		return out, err
	}
	out := map[string]any{lineKey: d.line}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if k, ok := key.(string); ok && k != lineKey {
			out[k] = v
		}
	}
	_, err = d.Token()
	return out, err
}

// neuronTag is a tag with what its group and its node say.
type neuronTag struct {
	fields   map[string]any
	interval string
	plugin   string
}

// neuronWalk collects the tags of an export.
type neuronWalk struct {
	tags      []neuronTag
	intervals map[string]string // by driver and group, where groups and tags stand apart
	nodes     map[string]map[string]any
}

func readNeuron(text []byte, o Options) (*List, error) {
	doc, err := decodeLines(text)
	if err != nil {
		return nil, fmt.Errorf("this is not JSON: %w", err)
	}
	w := &neuronWalk{intervals: map[string]string{}, nodes: map[string]map[string]any{}}
	w.walk(doc, neuronTag{})
	switch {
	case len(w.tags) == 0:
		return nil, errors.New("there are no tags in it: an export of Neuron has tags with name, address, type and attribute")
	case len(w.tags) > maxPoints:
		return nil, fmt.Errorf("there are %d tags, and a Device has at most %d: export fewer groups", len(w.tags), maxPoints)
	case len(w.nodes) > 1:
		return nil, fmt.Errorf("the export has %d south devices: export them one by one", len(w.nodes))
	}
	l := &List{Protocol: "modbus", Config: map[string]any{}}
	for _, node := range w.nodes {
		l.configure(node)
	}
	c := &converter{options: o, list: l, seen: map[string]int{}, addressing: "modicon"}
	for _, t := range w.tags {
		s := t.cells()
		switch {
		case strings.Contains(squeeze(t.plugin), "opcua"):
			l.Protocol = "opcua"
			c.opcua(s)
		case isNeuron(s.get("address")):
			c.point(s)
		default:
			l.refuse(s.line, s.get("name"), "address %q is not one of Neuron's Modbus addresses, as 1!40001, 1!400001.3 or 1!400001#BL", clip(s.get("address")))
		}
	}
	return l, nil
}

// walk goes through nodes, groups and tags.
func (w *neuronWalk) walk(v any, in neuronTag) {
	switch x := v.(type) {
	case []any:
		for _, e := range x {
			w.walk(e, in)
		}
	case map[string]any:
		if plugin := text(x, "plugin"); plugin != "" {
			in.plugin = plugin
		}
		if interval := text(x, "interval"); interval != "" {
			in.interval = interval
			w.intervals[text(x, "driver")+"\x00"+text(x, "group")] = interval
		} else if known := w.intervals[text(x, "driver")+"\x00"+text(x, "group")]; known != "" {
			in.interval = known
		}
		if x["address"] != nil && x["name"] != nil {
			in.fields = x
			w.tags = append(w.tags, in)
			return
		}
		if name := text(x, "node") + text(x, "name"); name != "" && x["groups"] != nil {
			w.nodes[name] = x
		}
		for _, key := range []string{"nodes", "groups", "tags"} {
			w.walk(x[key], in)
		}
	}
}

// configure takes over what a node says of the connection.
func (l *List) configure(node map[string]any) {
	params, ok := node["params"].(map[string]any)
	if !ok {
		return
	}
	if host := text(params, "host"); host != "" {
		l.Config["ip"] = host
		if port, err := strconv.Atoi(text(params, "port")); err == nil {
			l.Config["port"] = port
		}
	}
	if dev := text(params, "device"); dev != "" {
		l.Config["serialPort"] = dev
	}
	l.note("the connection is taken over from the export as far as it can be: check configData")
}

// text is a field as text; empty if there is none.
func text(m map[string]any, key string) string {
	switch v := m[key].(type) {
	case string:
		return strings.TrimSpace(v)
	case json.Number:
		return v.String()
	}
	return ""
}

// cells says in the words of other lists what a tag says.
func (t neuronTag) cells() cellSet {
	line, _ := t.fields[lineKey].(int)
	keys := map[string]string{"name": "name", "address": "address", "type": "type", "access": "attribute", "scale": "decimal", "add": "bias", "description": "description", "unit": "unit"}
	return cellSet{line: line, get: func(column string) string {
		if column == "cycle" {
			return t.interval
		}
		s := text(t.fields, keys[column])
		if (column == "scale" || column == "add") && s == "0" {
			return ""
		}
		return s
	}}
}

// opcua converts a tag of an OPC UA server.
func (c *converter) opcua(s cellSet) {
	m := neuronOPC.FindStringSubmatch(s.get("address"))
	name := PropertyName(s.get("name"))
	t, ok := typeOf(s.get("type"))
	if n, known := neuronTypes[s.get("type")]; known {
		t, ok = typeOf(n)
	}
	if m == nil || name == "" || !ok || c.seen[name] != 0 {
		c.list.refuse(s.line, s.get("name"), "an OPC UA tag needs a name of its own, a known type and an address as 2!Pump.Speed or 0!2258")
		return
	}
	c.seen[name] = max(s.line, 1)
	id := "s=" + m[2]
	if _, err := strconv.ParseUint(m[2], 10, 32); err == nil {
		id = "i=" + m[2]
	}
	writable, _, _ := accessOf(s.get("access"))
	c.list.Points = append(c.list.Points, Point{Line: s.line, Name: name, Type: t.model, Writable: writable, Station: -1, Description: s.get("description"),
		Visitor: map[string]any{"nodeID": "ns=" + m[1] + ";" + id}})
}
