package images

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// The grammar of names (https://pkg.go.dev/github.com/distribution/reference).
var (
	repository = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	host       = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(:[0-9]+)?$`)
	tag        = regexp.MustCompile(`^[\w][\w.-]{0,127}$`)
	digest     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	digests    = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})$`)
	hex64      = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// maxName bounds a name that is looked at, and maxRepository the part of it that names the registry and what is there.
const (
	maxName       = 512
	maxRepository = 255
)

// Reference is the name of an image, in full.
type Reference struct {
	Registry string // HOST or HOST:PORT, as docker.io
	Path     string // at the registry, as library/busybox
	Tag      string // empty: none is named
	Digest   string // as sha256:…; empty: none is named
}

// Repository is the name without tag and digest: docker.io/library/busybox.
func (r Reference) Repository() string { return r.Registry + "/" + r.Path }

var errReference = errors.New("invalid reference format")

// ParseReference reads a name as Kubernetes takes it, and completes it as Docker does: busybox is at docker.io/library/busybox. A
// tag that is missing is not filled in.
func ParseReference(s string) (Reference, error) {
	if len(s) > maxName || hex64.MatchString(s) {
		return Reference{}, errReference
	}
	var r Reference
	rest, d, pinned := strings.Cut(s, "@")
	if r.Digest = d; pinned && !digests.MatchString(d) {
		return Reference{}, errReference
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, r.Tag = rest[:i], rest[i+1:]
		if !tag.MatchString(r.Tag) {
			return Reference{}, errReference
		}
	}
	domain, path, ok := strings.Cut(rest, "/")
	if !ok || !strings.ContainsAny(domain, ".:") && domain != "localhost" && strings.ToLower(domain) == domain {
		domain, path = "docker.io", rest
	}
	if domain == "index.docker.io" {
		domain = "docker.io"
	}
	if domain == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	if !host.MatchString(domain) || !repository.MatchString(path) || len(domain)+1+len(path) > maxRepository {
		return Reference{}, errReference
	}
	r.Registry, r.Path = domain, path
	return r, nil
}

// name is a reference in full: docker.io/library/busybox, 1.36.
type name struct{ repo, tag string }

func (n name) String() string { return n.repo + ":" + n.tag }

// parseName completes a reference as the tools do that made the file: busybox is docker.io/library/busybox:latest.
func parseName(s string) (name, error) {
	r, err := ParseReference(s)
	if err != nil || r.Digest != "" {
		return name{}, fmt.Errorf("%q is no name of an image: allowed is REPOSITORY:TAG, as registry.example.org/app:1.4", s)
	}
	if r.Tag == "" {
		r.Tag = "latest"
	}
	return name{r.Repository(), r.Tag}, nil
}
