package devicectl

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/tinylib/msgp/msgp"
	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/firmware/wire/devicev1"
)

// manifests are Devices and DeviceModels of files, as kubectl would apply them.
type manifests struct {
	devices []*devicev1.Device
	models  []*devicev1.DeviceModel
}

const maxDocuments = 10000

// add takes over the documents of a file, lists included. Kinds that are none of ours are left out.
func (m *manifests) add(text []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for n := 1; ; n++ {
		var doc map[string]any
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && n > maxDocuments {
			err = fmt.Errorf("there are more than %d", maxDocuments)
		}
		if err == nil {
			err = m.document(doc)
		}
		if err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
	}
}

func (m *manifests) document(doc map[string]any) error {
	kind, _ := doc["kind"].(string)
	switch kind {
	case "List", "DeviceList", "DeviceModelList":
		items, _ := doc["items"].([]any)
		for _, x := range items {
			if item, ok := x.(map[string]any); ok {
				if err := m.document(item); err != nil {
					return err
				}
			}
		}
		return nil
	case "Device", "DeviceModel":
	default:
		return nil
	}
	meta, ok := doc["metadata"].(map[string]any)
	if !ok {
		return fmt.Errorf("a %s without metadata", kind)
	}
	if meta["namespace"] == nil {
		meta["namespace"] = "default"
	}
	for k := range meta { // timestamps and the like, which the edge never gets
		if k != "name" && k != "namespace" {
			delete(meta, k)
		}
	}
	delete(doc, "status")
	body, err := msgp.AppendIntf(nil, without(doc))
	if err != nil {
		return fmt.Errorf("%s %v: %w", kind, meta["name"], err)
	}
	if kind == "Device" {
		d, err := devicev1.DecodeDevice(body)
		if err != nil {
			return fmt.Errorf("%s %v: %w", kind, meta["name"], err)
		}
		m.devices = append(m.devices, d)
		return nil
	}
	model, err := devicev1.DecodeModel(body)
	if err != nil {
		return fmt.Errorf("%s %v: %w", kind, meta["name"], err)
	}
	m.models = append(m.models, model)
	return nil
}

// without leaves out what is null: the wire has no nulls, and a field that is null is a field that is missing.
func without(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			if e == nil {
				delete(x, k)
				continue
			}
			x[k] = without(e)
		}
	case []any:
		for i := range x {
			x[i] = without(x[i])
		}
	}
	return v
}

// modelOf returns the model that a device refers to, nil if it is not among the manifests.
func (m *manifests) modelOf(d *devicev1.Device) *devicev1.DeviceModel {
	if d.Spec.DeviceModelRef == nil {
		return nil
	}
	for _, x := range m.models {
		if x.Metadata.Namespace == d.Metadata.Namespace && x.Metadata.Name == d.Spec.DeviceModelRef.Name {
			return x
		}
	}
	return nil
}
