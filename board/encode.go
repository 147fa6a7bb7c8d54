package board

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/board/strict"
)

// YAML returns the descriptor as a file that Parse reads back, without the keys that have no value.
func (d *Descriptor) YAML() ([]byte, error) {
	flat := *d
	flat.Extends = "" // what it took over is in it
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(nodeOf(reflect.ValueOf(flat), 0)); err != nil {
		return nil, fmt.Errorf("encode board %s: %w", d.Name, err)
	}
	return b.Bytes(), nil
}

// nodeOf builds what is not zero. Entries of lists stand on one line.
func nodeOf(v reflect.Value, lists int) *yaml.Node {
	switch x := v.Interface().(type) {
	case Size:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: x.String()}
	case time.Duration:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: x.String()}
	}
	switch v.Kind() {
	case reflect.Pointer:
		return nodeOf(v.Elem(), lists)
	case reflect.Struct:
		n := &yaml.Node{Kind: yaml.MappingNode}
		if lists > 0 {
			n.Style = yaml.FlowStyle
		}
		for i, key := range strict.Keys(v.Type()) {
			if f := v.Field(i); !f.IsZero() && (f.Kind() != reflect.Slice || f.Len() > 0) {
				n.Content = append(n.Content, textNode(key), nodeOf(f, lists))
			}
		}
		return n
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if v.Type().Elem().Kind() == reflect.String {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, nodeOf(v.Index(i), lists+1))
		}
		return n
	case reflect.Map:
		n := &yaml.Node{Kind: yaml.MappingNode}
		var names []string
		for _, k := range v.MapKeys() {
			names = append(names, k.String())
		}
		slices.Sort(names)
		for _, name := range names {
			n.Content = append(n.Content, textNode(name), textNode(v.MapIndex(reflect.ValueOf(name)).String()))
		}
		return n
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.FormatBool(v.Bool())}
	case reflect.Int:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.FormatInt(v.Int(), 10)}
	}
	return textNode(v.String())
}

func textNode(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s) // quoted where it would be read as something else
	return n
}
