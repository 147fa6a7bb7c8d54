package push

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Defaults and limits of fields.
const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = 5 * time.Minute
	maxText        = 512
)

// endpoint is a target: what a connection depends on. Properties with the same endpoint share it.
type endpoint struct {
	kind    string        // the name of the protocol in the manifest
	address string        // scheme://host:port, which also finds the credentials
	path    string        // of the request, with its query
	timeout time.Duration // of one request
	db      int           // Redis
}

// name is that of the target, and of its cursor: readable, and not longer than a cursor's may be.
func (e endpoint) name() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []string{e.kind, e.address, e.path, strconv.Itoa(e.db)}))
	_, host, _ := strings.Cut(e.address, "://")
	return cursorPrefix + e.kind + ":" + host[:min(len(host), 60)] + "-" + hex.EncodeToString(sum[:4])
}

const cursorPrefix = "push:"

// target is one place where a property's values go.
type target struct {
	endpoint
	opt *options
}

// protocol is one way to push. path is where its fields stand in the manifest.
type protocol struct {
	parse func(path string, data map[string]any) (target, error)
	dial  func(endpoint, credential) (sender, error)
}

// parse reads a pushMethod that stands at path. What is right of several targets counts.
func parse(path string, method map[string]any) (out []target, err error) {
	var errs []error
	take := func(kind, path string, data any) {
		fields, ok := data.(map[string]any)
		if !ok && data != nil {
			errs = append(errs, &device.FieldError{Field: path, Value: data, Problem: "is not an object", Allowed: "an object, docs/push.md"})
			return
		}
		t, err := protocols()[kind].parse(path, fields)
		if err != nil {
			errs = append(errs, err)
			return
		}
		t.kind = kind
		out = append(out, t)
	}
	top := []string{"http", "mqtt", "otel"}
	databases := []string{"influxdb2", "redis", "TDEngine"}
	for _, key := range slices.Sorted(maps.Keys(method)) {
		at := path + "." + key
		switch {
		case method[key] == nil:
		case slices.Contains(top, key) && protocols()[key].dial != nil:
			take(key, at, method[key])
		case key == "dbMethod":
			db, _ := method[key].(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(db)) {
				switch {
				case db[name] == nil:
				case slices.Contains(databases, name) && protocols()[name].dial != nil:
					take(name, at+"."+name, db[name])
				default:
					errs = append(errs, unsupported(at+"."+name))
				}
			}
		default:
			errs = append(errs, unsupported(at))
		}
	}
	if len(out) == 0 && len(errs) == 0 {
		errs = append(errs, &device.FieldError{Field: path, Problem: "names no target", Allowed: allowedTargets()})
	}
	return out, errors.Join(errs...)
}

func unsupported(field string) error {
	return &device.FieldError{Field: field, Problem: "is not supported", Allowed: allowedTargets()}
}

func allowedTargets() string {
	names := slices.Sorted(maps.Keys(protocols()))
	for i, n := range names {
		if n != "http" && n != "mqtt" && n != "otel" {
			names[i] = "dbMethod." + n
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// address judges scheme://host[:port][/path] and returns scheme://host:port and the rest. port 0 is the scheme's.
func address(f *device.Fields, field, text string, port int64, schemes map[string]int) (base, path string) {
	allowed := make([]string, 0, len(schemes))
	for _, s := range slices.Sorted(maps.Keys(schemes)) {
		allowed = append(allowed, s+"://HOST:PORT")
	}
	fail := func(problem string) (string, string) {
		f.Fail(field, text, problem, strings.Join(allowed, ", "))
		return "", ""
	}
	if len(text) > maxText {
		return fail(fmt.Sprintf("has more than %d bytes", maxText))
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Hostname() == "":
		return fail("is no address with a scheme and a host")
	case schemes[u.Scheme] == 0:
		return fail("has a scheme that is not known here")
	case u.User != nil:
		return fail("holds a user: credentials are not for manifests, the gateway's file of credentials has them (docs/push.md)")
	case u.Fragment != "":
		return fail("has a fragment")
	case port != 0 && u.Port() != "":
		return fail("has a port, and the field port has one, too")
	case u.Port() != "":
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || n == 0 {
			return fail("has a port that is out of range")
		}
		port = int64(n)
	case port == 0:
		port = int64(schemes[u.Scheme])
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), strconv.FormatInt(port, 10)), u.RequestURI()
}

var webSchemes = map[string]int{"http": 80, "https": 443}

func (f *reading) text(name string) string {
	s := f.Text("", name)
	if len(s) > maxText {
		f.Fail(name, len(s), fmt.Sprintf("has more than %d bytes", maxText), "a shorter text")
		return ""
	}
	if strings.ContainsAny(s, "\r\n\x00") {
		f.Fail(name, s, "holds a line break or a NUL", "one line")
		return ""
	}
	return s
}

// reading reads the fields of one object and knows their names.
type reading struct {
	*device.Fields
	known []device.FieldDoc
}

func read(path string, data map[string]any, names ...string) *reading {
	r := &reading{Fields: device.NewFields(path, data)}
	for _, n := range names {
		r.known = append(r.known, device.FieldDoc{Name: n})
	}
	return r
}

func (f *reading) err() error { return f.Err(f.known) }

// object returns the fields of an object within data.
func object(data map[string]any, name string) map[string]any {
	m, _ := data[name].(map[string]any)
	return m
}
