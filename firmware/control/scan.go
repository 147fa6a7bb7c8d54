package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// ScannerFor returns the scanner of a protocol.
func ScannerFor(drivers []device.Driver, protocol string) (device.Scanner, error) {
	var can []string
	for _, d := range drivers {
		s, ok := d.(device.Scanner)
		if !ok {
			continue
		}
		can = append(can, d.Protocols()[0])
		if slices.ContainsFunc(d.Protocols(), func(p string) bool { return strings.EqualFold(p, protocol) }) {
			return s, nil
		}
	}
	return nil, &Error{Code: CodeUnsupported, Text: fmt.Sprintf("devices of protocol %q cannot be found by a scan; allowed: %s", protocol, few(can))}
}

// Scan scans and tells say of progress and of what is found, one call at a time. It returns when all has been asked, ctx has
// ended or, with First, the settings that found a device are done.
func Scan(ctx context.Context, s device.Scanner, req ScanRequest, say func(ScanLine)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	var at ScanLine
	hit, over := "", false // settings with a device
	settings := func(what string) string { before, _, _ := strings.Cut(what, ","); return before }
	progress := func(done, total int, what string) {
		if req.First && hit != "" && settings(what) != hit {
			over = true
			cancel()
			return
		}
		at = ScanLine{Done: done, Total: total, What: what, Left: left(began, time.Now(), done, total)}
		say(at)
	}
	found := func(r device.ScanResult) {
		hit = settings(at.What)
		line := at
		line.Found = &Found{Config: r.Protocol, Name: r.Name}
		say(line)
	}
	err := s.Scan(ctx, device.ScanRequest{Protocol: req.Config, Units: req.Units, Bauds: req.Bauds, Parities: req.Parities}, progress, found)
	if over {
		return nil
	}
	return err
}
