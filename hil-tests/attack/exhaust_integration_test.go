//go:build integration

package attack

import (
	"encoding/binary"
	"testing"

	"github.com/skerry/skerry/firmware/wire"
)

// exhaustAttempts try to make the relay take memory or processor time.
func exhaustAttempts() []attempt {
	ended := func(reason string) []string {
		return []string{"skerry_relay_session_closes_total", `reason="` + reason + `"`}
	}
	return []attempt{
		{"declared-lengths", tryDeclaredLengths, ended("protocol-error"), []string{"node=NODE", "malformed frame"}},
	}
}

// tryDeclaredLengths sends frames whose MessagePack says that gigabytes follow.
func tryDeclaredLengths(t *testing.T, r *rig, node string) {
	huge := binary.BigEndian.AppendUint32(nil, 1<<32-1)
	for what, head := range map[string][]byte{
		"array": {0xdd}, "map": {0xdf}, "string": {0xdb}, "bytes": {0xc6}, "extension": {0xc9},
	} {
		for _, typ := range []wire.FrameType{wire.TypeReport, wire.TypeOutbox, wire.TypeEntries, wire.TypeHello} {
			s := open(t, r.attacker(t, node), node)
			value := append(append([]byte{}, head...), huge...)
			body := append([]byte{byte(typ), 0x81, 0xa1, 'i'}, value...)
			if err := s.Raw(Frame(Fin|Binary, body)); err != nil {
				t.Fatal(err)
			}
			if c := closed(t, s); c.Code != wire.CloseProtocol {
				t.Errorf("%s of 4 GiB in a %v frame: %v: %s", what, typ, c.Code, c.Reason)
			}
			_ = s.Close()
		}
	}
}
