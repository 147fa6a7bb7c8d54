package modbus

import (
	"context"
	"fmt"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// identityNames are the objects that the standard names (Application Protocol V1.1b3, section 6.21).
var identityNames = [...]string{"VendorName", "ProductCode", "MajorMinorRevision", "VendorUrl", "ProductName", "ModelName", "UserApplicationName"}

// object is one object of a device identification.
type object struct {
	id   byte
	text string
}

func (o object) String() string {
	name := fmt.Sprintf("object %#02x", o.id)
	if int(o.id) < len(identityNames) {
		name = identityNames[o.id]
	}
	return name + " = " + o.text
}

// identity is one reply of FC 43/14.
type identity struct {
	objects []object
	more    bool
	next    byte // the object to go on with, if there are more
}

// parseIdentity takes the data of a reply apart: MEI type, category, conformity, more follows, next object, number, objects.
func parseIdentity(data []byte) (identity, error) {
	if len(data) < 6 || data[0] != meiIdentity {
		return identity{}, badFrame("a device identification of %d bytes", len(data))
	}
	out := identity{more: data[3] == 0xFF, next: data[4]}
	rest := data[6:]
	for range int(data[5]) {
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return identity{}, badFrame("a device identification that ends within an object")
		}
		text := strings.ToValidUTF8(strings.TrimRight(string(rest[2:2+int(rest[1])]), " \x00"), "\uFFFD")
		out.objects = append(out.objects, object{rest[0], text})
		rest = rest[2+int(rest[1]):]
	}
	return out, nil
}

// maxIdentityReplies bounds how often a device may say that there is more.
const maxIdentityReplies = 64

// Browse implements device.Browser: Modbus has no list of registers, but a device may tell what it is. There is one level.
func (s *session) Browse(ctx context.Context, node string, limit int) ([]device.BrowseEntry, error) {
	if node != "" {
		return nil, fmt.Errorf("modbus: there is nothing to browse below %q", node)
	}
	if s.config.broadcast {
		return nil, fmt.Errorf("modbus: a broadcast has no reply")
	}
	var out []device.BrowseEntry
	for category, first := byte(1), byte(0); category <= 3; category++ { // basic, regular, extended
		for range maxIdentityReplies {
			data, err := s.do(ctx, identify(category, first), classReadBack)
			if err != nil && len(out) > 0 && category > 1 {
				return out, nil // the device has no such category
			}
			if err != nil {
				return nil, err
			}
			got, err := parseIdentity(data)
			if err != nil {
				return nil, err
			}
			for _, o := range got.objects {
				if o.id < first {
					continue // a device that gives the basic ones with the regular ones
				}
				first = max(first, o.id)
				if len(out) >= limit {
					return out, nil
				}
				out = append(out, device.BrowseEntry{Name: o.String(), Type: device.TypeString})
			}
			if !got.more || got.next <= first && len(got.objects) == 0 {
				break
			}
			first = got.next
		}
		if first = [...]byte{0, 3, 0x80, 0}[category]; category == 3 {
			break
		}
	}
	return out, nil
}
