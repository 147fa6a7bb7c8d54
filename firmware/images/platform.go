package images

import (
	"fmt"
	"runtime"
	"strings"
)

// Platform is what an image is for.
type Platform struct {
	OS      string `json:"os"`
	Arch    string `json:"architecture"`
	Variant string `json:"variant,omitempty"`
}

// Host returns this machine's platform. The ARM binaries of Skerry need ARMv7, so that is what an ARM machine has at least.
func Host() Platform {
	p := Platform{OS: "linux", Arch: runtime.GOARCH}
	if p.Arch == "arm" {
		p.Variant = "v7"
	}
	return p
}

// ParsePlatform reads OS/ARCH or OS/ARCH/VARIANT.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return Platform{}, fmt.Errorf("platform %q: allowed are OS/ARCH and OS/ARCH/VARIANT, as linux/arm/v7", s)
	}
	p := Platform{OS: parts[0], Arch: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

func (p Platform) String() string {
	if p.Variant == "" {
		return p.OS + "/" + p.Arch
	}
	return p.OS + "/" + p.Arch + "/" + p.Variant
}

// fits says how well an image for p runs on host: 0 not at all, more is better.
func (p Platform) fits(host Platform) int {
	if p.OS != host.OS || p.Arch != host.Arch {
		return 0
	}
	have, want := p.level(), host.level()
	switch {
	case have > want:
		return 0
	case p.Variant == host.Variant:
		return 20
	default:
		return have + 1 // an older variant runs too, less well
	}
}

// level orders the variants of an architecture; one without a name is the usual one.
func (p Platform) level() int {
	usual := map[string]string{"arm": "v7", "arm64": "v8", "amd64": "v1"}[p.Arch]
	v := p.Variant
	if v == "" {
		v = usual
	}
	if len(v) >= 2 && v[0] == 'v' && v[1] >= '1' && v[1] <= '9' {
		return int(v[1] - '0')
	}
	return 0
}
