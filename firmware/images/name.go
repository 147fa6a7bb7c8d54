package images

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	repository = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	host       = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(:[0-9]+)?$`)
	tag        = regexp.MustCompile(`^[\w][\w.-]{0,127}$`)
	digest     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// name is a reference in full: docker.io/library/busybox, 1.36.
type name struct{ repo, tag string }

func (n name) String() string { return n.repo + ":" + n.tag }

// parseName completes a reference as the tools do that made the file: busybox is docker.io/library/busybox:latest.
func parseName(s string) (name, error) {
	bad := func() (name, error) {
		return name{}, fmt.Errorf("%q is no name of an image: allowed is REPOSITORY:TAG, as registry.example.org/app:1.4", s)
	}
	if len(s) > 512 || strings.Contains(s, "@") {
		return bad()
	}
	rest, t := s, "latest"
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		rest, t = s[:i], s[i+1:]
	}
	domain, repo, ok := strings.Cut(rest, "/")
	if !ok || !strings.ContainsAny(domain, ".:") && domain != "localhost" {
		domain, repo = "docker.io", rest
	}
	if domain == "docker.io" && !strings.Contains(repo, "/") {
		repo = "library/" + repo
	}
	if !host.MatchString(domain) || !repository.MatchString(repo) || !tag.MatchString(t) {
		return bad()
	}
	return name{domain + "/" + repo, t}, nil
}
