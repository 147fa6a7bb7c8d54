package opcua

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// point is a compiled property. It is immutable.
type point struct {
	key      string // equal for points that live at the same node
	from     *address
	path     []pathStep
	index    string // index range
	single   bool   // the index range is one element
	typ      device.Type
	readBack bool
	cycle    time.Duration // how often the property is read; 0: not known
	given    bool          // the visitor has sampling fields of its own
	visitor  map[string]any
	method   *address // a method; from is its object
}

// String implements device.Point.
func (p *point) String() string {
	if p.index != "" {
		return p.key + "[" + p.index + "]"
	}
	return p.key
}

func describeVisitor() []device.FieldDoc {
	return append([]device.FieldDoc{
		{Name: "nodeID", Aliases: []string{"node"}, Meaning: "the node whose value it is", Default: "required, unless browsePath is given", Allowed: addressAllowed},
		{Name: "browsePath", Meaning: "path of browse names to the node, from nodeID or else the Objects folder", Default: "none", Allowed: pathAllowed},
		{Name: "browseName", Meaning: "the node's name; it is not used", Default: "none", Allowed: "text"},
		{Name: "indexRange", Meaning: "part of an array (Part 4, section 7.27); a single element is a value of its own", Default: "the whole", Allowed: "3, 0:9, 0:1,2:3"},
		{Name: "readBack", Meaning: "whether a written value is read back to verify it", Default: "true", Allowed: "true, false"},
		{Name: "methodID", Aliases: []string{"method"}, Meaning: "a method to call; nodeID or browsePath is the object that has it", Default: "none", Allowed: addressAllowed},
	}, describeSampling("of this property")...)
}

// documented is what compile needs of the reference for each of many points.
type documented struct{ all, sampling []device.FieldDoc }

var visitorDocs = sync.OnceValue(func() documented {
	return documented{all: describeVisitor(), sampling: describeSampling("")}
})

// compile judges a property's configuration without I/O.
func compile(cfg device.PointConfig) (*point, error) {
	f := device.NewFields(cfg.Path, cfg.Visitor)
	p := &point{typ: cfg.Type, cycle: cfg.Cycle}
	f.Ignore("browseName")
	if !f.Has("browsePath") {
		f.Require(addressAllowed, "nodeID", "node")
	}
	if text := f.Text("", "nodeID", "node"); text != "" {
		if a, err := parseAddress(text); err != nil {
			f.Fail("nodeID", text, err.Error(), addressAllowed)
		} else {
			p.from, p.key = &a, text
		}
	}
	if text := f.Text("", "browsePath"); text != "" {
		steps, err := parsePath(text)
		if err != nil {
			f.Fail("browsePath", text, err.Error(), pathAllowed)
		}
		p.path = steps
		p.key = strings.TrimSpace(p.key + " " + text)
	}
	if text := f.Text("", "methodID", "method"); text != "" {
		a, err := parseAddress(text)
		if err != nil {
			f.Fail("methodID", text, err.Error(), addressAllowed)
		}
		p.method = &a
		p.key += " method " + text
	}
	if p.index = f.Text("", "indexRange"); p.index != "" {
		single, err := parseRange(p.index)
		if err != nil {
			f.Fail("indexRange", p.index, err.Error(), "3, 0:9, 0:1,2:3")
		}
		p.single = single
	}
	p.readBack = f.Bool(true, "readBack")
	docs := visitorDocs()
	for _, d := range docs.sampling {
		p.given = f.Has(d.Name) || p.given
	}
	if p.given { // a hundred thousand points that keep their manifests would take 30 MB
		p.visitor = cfg.Visitor
		parseSampling(f, sampling{queue: 1})
	}
	if cfg.Type == device.TypeStream {
		f.Fail("nodeID", p.key, "cannot be a STREAM", "a model type other than STREAM")
	}
	if err := f.Err(docs.all); err != nil {
		return nil, err
	}
	return p, nil
}

// parseRange judges a numeric range, and tells whether it selects exactly one element.
func parseRange(text string) (single bool, err error) {
	single = true
	for _, dim := range strings.Split(text, ",") {
		low, high, span := strings.Cut(dim, ":")
		a, err := strconv.ParseUint(low, 10, 31)
		if err != nil {
			return false, fmt.Errorf("has %q where an index should stand", low)
		}
		if !span {
			continue
		}
		single = false
		b, err := strconv.ParseUint(high, 10, 31)
		if err != nil || b <= a {
			return false, fmt.Errorf("has %q, which is not two indexes, the smaller one first", dim)
		}
	}
	return single, nil
}

// watch is how the property is watched, with the device's defaults.
func (p *point) watch(def sampling) sampling {
	if !p.given {
		return def
	}
	f := device.NewFields("", p.visitor)
	return parseSampling(f, def)
}
