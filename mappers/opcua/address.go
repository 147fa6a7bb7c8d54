package opcua

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gopcua/opcua/ua"
)

// address is a node id as a manifest writes it (Part 6, section 5.3.1.10), not yet resolved to a server's namespace indexes.
type address struct {
	uri string     // of the namespace; empty if the index was given
	id  *ua.NodeID // with that index
}

// String is the canonical text.
func (a address) String() string {
	if a.uri == "" {
		return a.id.String()
	}
	return "nsu=" + strings.NewReplacer("%", "%25", ";", "%3B").Replace(a.uri) + ";" + inNamespace(a.id, 0).String()
}

const addressAllowed = "ns=2;s=Pump.Speed, nsu=http://vendor/ns;i=1001, i=85, and kinds g= (GUID) and b= (base64)"

// parseAddress reads a node id. Without a namespace it is in namespace 0.
func parseAddress(text string) (address, error) {
	var a address
	var space uint16
	rest := strings.TrimSpace(text)
	if strings.HasPrefix(rest, "svr=") {
		return a, errors.New("svr= names another server")
	}
	if after, ok := strings.CutPrefix(rest, "nsu="); ok {
		uri, id, found := strings.Cut(after, ";")
		if !found || uri == "" {
			return a, errors.New("nsu= is not followed by a namespace URI and ;")
		}
		// In text form ; and % of a URI are escaped.
		a.uri, rest = strings.NewReplacer("%3B", ";", "%3b", ";", "%25", "%").Replace(uri), id
	} else if after, ok := strings.CutPrefix(rest, "ns="); ok {
		ns, id, found := strings.Cut(after, ";")
		n, err := strconv.ParseUint(ns, 10, 16)
		if !found || err != nil {
			return a, errors.New("ns= is not followed by a number up to 65535 and ;")
		}
		space, rest = uint16(n), id
	}
	kind, id, found := strings.Cut(rest, "=")
	if !found {
		return a, errors.New("has no identifier i=, s=, g= or b=")
	}
	switch kind {
	case "i":
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return a, errors.New("i= is not followed by a number up to 4294967295")
		}
		a.id = ua.NewNumericNodeID(space, uint32(n))
	case "s":
		if id == "" || len(id) > 4096 {
			return a, errors.New("s= is not followed by 1 to 4096 bytes")
		}
		a.id = ua.NewStringNodeID(space, id)
	case "g":
		if ua.NewGUID(id) == nil {
			return a, errors.New("g= is not followed by a GUID")
		}
		a.id = ua.NewGUIDNodeID(space, id)
	case "b":
		b, err := base64.StdEncoding.DecodeString(id)
		if err != nil || len(b) == 0 || len(b) > 4096 {
			return a, errors.New("b= is not followed by 1 to 4096 bytes in base64")
		}
		a.id = ua.NewByteStringNodeID(space, b)
	default:
		return a, fmt.Errorf("has an identifier of unknown kind %q", kind)
	}
	return a, nil
}

// resolve finds the node id at a server with these namespaces.
func (a address) resolve(namespaces []string) (*ua.NodeID, error) {
	if a.uri == "" {
		return a.id, nil
	}
	for i, uri := range namespaces {
		if uri == a.uri {
			return inNamespace(a.id, uint16(i)), nil
		}
	}
	return nil, fmt.Errorf("the server has no namespace %q; it has %s", a.uri, strings.Join(namespaces, ", "))
}

// inNamespace is a copy of a node id in another namespace.
func inNamespace(id *ua.NodeID, ns uint16) *ua.NodeID {
	c := ua.NewNodeIDFromExpandedNodeID(&ua.ExpandedNodeID{NodeID: id})
	_ = c.SetNamespace(ns) // fails for two- and four-byte forms only, which parseAddress does not make
	return c
}

// pathStep is one element of a browse path.
type pathStep struct {
	reference uint32 // hierarchical or aggregates, in namespace 0
	uri       string
	ns        uint16
	name      string
}

const (
	hierarchical = 33 // ns=0: HierarchicalReferences
	aggregates   = 44 // ns=0: Aggregates
	rootFolder   = 84
	objectFolder = 85
)

const pathAllowed = "/2:Boiler/2:Drum.2:Level, where a name may also be {http://vendor/ns}Boiler, and & stands before / . : < & { } in a name"

// parsePath reads a relative path as in Part 4, annex A.2: '/' is any hierarchical reference, '.' an aggregate.
func parsePath(text string) ([]pathStep, error) {
	var out []pathStep
	rest := strings.TrimSpace(text)
	if rest != "" && rest[0] != '/' && rest[0] != '.' {
		rest = "/" + rest
	}
	for rest != "" {
		step := pathStep{reference: hierarchical}
		switch rest[0] {
		case '.':
			step.reference = aggregates
		case '/':
		default:
			return nil, fmt.Errorf("has %q where / or . should stand", rest[0])
		}
		rest = rest[1:]
		if after, ok := strings.CutPrefix(rest, "{"); ok {
			uri, name, found := strings.Cut(after, "}")
			if !found || uri == "" {
				return nil, errors.New("has { without a URI and }")
			}
			step.uri, rest = uri, name
		}
		var name strings.Builder
		indexed := false
		i := 0
		for ; i < len(rest) && rest[i] != '/' && rest[i] != '.'; i++ {
			switch c := rest[i]; {
			case c == '&' && i+1 < len(rest):
				i++
				name.WriteByte(rest[i])
			case c == ':' && step.uri == "" && !indexed:
				n, err := strconv.ParseUint(name.String(), 10, 16)
				if err != nil {
					return nil, fmt.Errorf("has %q where a namespace index should stand", name.String())
				}
				step.ns, indexed = uint16(n), true
				name.Reset()
			case c == '<' || c == '#' || c == '!':
				return nil, errors.New("names a reference type: only / and . are understood")
			default:
				name.WriteByte(c)
			}
		}
		rest = rest[i:]
		if step.name = name.String(); step.name == "" {
			return nil, errors.New("has an empty name")
		}
		out = append(out, step)
		if len(out) > 64 {
			return nil, errors.New("has more than 64 names")
		}
	}
	if len(out) == 0 {
		return nil, errors.New("is empty")
	}
	return out, nil
}

// startsAtRoot tells whether a path without a starting node begins with one of the root's folders.
func startsAtRoot(path string) bool {
	steps, err := parsePath(path)
	if err != nil {
		return false
	}
	s := steps[0]
	return s.ns == 0 && s.uri == "" && (s.name == "Objects" || s.name == "Types" || s.name == "Views")
}

// relative is the path for a server with these namespaces.
func relative(path string, namespaces []string) (*ua.RelativePath, error) {
	steps, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	out := &ua.RelativePath{}
	for _, s := range steps {
		ns := s.ns
		if s.uri != "" {
			id, err := (address{uri: s.uri, id: ua.NewNumericNodeID(0, 1)}).resolve(namespaces)
			if err != nil {
				return nil, err
			}
			ns = id.Namespace()
		}
		out.Elements = append(out.Elements, &ua.RelativePathElement{
			ReferenceTypeID: ua.NewNumericNodeID(0, s.reference), IncludeSubtypes: true, TargetName: &ua.QualifiedName{NamespaceIndex: ns, Name: s.name},
		})
	}
	return out, nil
}
