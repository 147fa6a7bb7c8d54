package devicev1

import (
	"errors"
	"fmt"
)

// DecodeDevice decodes the body of a Device and checks that it names itself.
func DecodeDevice(body []byte) (*Device, error) {
	d := new(Device)
	if _, err := d.UnmarshalMsg(body); err != nil {
		return nil, fmt.Errorf("decode Device: %w", err)
	}
	if d.Metadata.Name == "" || d.Metadata.Namespace == "" {
		return nil, errors.New("decode Device: metadata.name or metadata.namespace is missing")
	}
	return d, nil
}

// DecodeModel decodes the body of a DeviceModel and checks that it names itself.
func DecodeModel(body []byte) (*DeviceModel, error) {
	m := new(DeviceModel)
	if _, err := m.UnmarshalMsg(body); err != nil {
		return nil, fmt.Errorf("decode DeviceModel: %w", err)
	}
	if m.Metadata.Name == "" {
		return nil, errors.New("decode DeviceModel: metadata.name is missing")
	}
	return m, nil
}
