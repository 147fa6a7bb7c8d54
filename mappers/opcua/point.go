package opcua

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
)

// point is a compiled property. It is immutable. There may be 100,000 of them: what most have in common is kept once.
type point struct {
	node     ua.NodeID            // the node, or where its path starts; in the shape's namespace if that has a URI
	shape    unique.Handle[shape] // the zero one: that of a plain node
	cycle    int32                // how often the property is read, in milliseconds; 0: not known
	typ      device.Type
	readBack bool
}

// shape is what makes a point more than a node with an index.
type shape struct {
	uri    string // of the node's namespace; empty: the node has its index
	start  bool   // there is a node
	path   string // browse path; empty: none
	index  string // index range
	single bool   // the index range is one element
	method string // the node id of a method; the point's node is its object
	how    override
}

// extra is what a point has beside its node.
func (p *point) extra() shape {
	if p.shape == (unique.Handle[shape]{}) {
		return shape{start: true}
	}
	return p.shape.Value()
}

// address is the point's node, or where its path starts.
func (p *point) address() address { return address{uri: p.extra().uri, id: &p.node} }

// every is how often the property is read; 0: not known.
func (p *point) every() time.Duration { return time.Duration(p.cycle) * time.Millisecond }

// place is the same text for points that live at the same node.
func (p *point) place() string {
	x := p.extra()
	var parts []string
	if x.start {
		parts = append(parts, p.address().String())
	}
	if x.path != "" {
		parts = append(parts, x.path)
	}
	if x.method != "" {
		parts = append(parts, "method", x.method)
	}
	return strings.Join(parts, " ")
}

// String implements device.Point.
func (p *point) String() string {
	x := p.extra()
	text := p.place()
	if x.index != "" {
		text += "[" + x.index + "]"
	}
	return text + x.how.String()
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

// visitorDocs is the reference, made once for many points.
var visitorDocs = sync.OnceValue(describeVisitor)

// compile judges a property's configuration without I/O.
func compile(cfg device.PointConfig) (*point, error) {
	f := device.NewFields(cfg.Path, cfg.Visitor)
	p := &point{typ: cfg.Type, cycle: int32(min(cfg.Cycle.Milliseconds(), math.MaxInt32))}
	var x shape
	f.Ignore("browseName")
	if !f.Has("browsePath") {
		f.Require(addressAllowed, "nodeID", "node")
	}
	if text := f.Text("", "nodeID", "node"); text != "" {
		a, err := parseAddress(text)
		if err != nil {
			f.Fail("nodeID", text, err.Error(), addressAllowed)
		} else {
			p.node, x.uri, x.start = *a.id, a.uri, true
		}
	}
	if x.path = f.Text("", "browsePath"); x.path != "" {
		if _, err := parsePath(x.path); err != nil {
			f.Fail("browsePath", x.path, err.Error(), pathAllowed)
		}
	}
	if x.method = f.Text("", "methodID", "method"); x.method != "" {
		if _, err := parseAddress(x.method); err != nil {
			f.Fail("methodID", x.method, err.Error(), addressAllowed)
		}
	}
	if x.index = f.Text("", "indexRange"); x.index != "" {
		single, err := parseRange(x.index)
		if err != nil {
			f.Fail("indexRange", x.index, err.Error(), "3, 0:9, 0:1,2:3")
		}
		x.single = single
	}
	p.readBack = f.Bool(true, "readBack")
	x.how = parseOverride(f)
	if cfg.Type == device.TypeStream {
		f.Fail("nodeID", p.String(), "cannot be a STREAM", "a model type other than STREAM")
	}
	if err := f.Err(visitorDocs()); err != nil {
		return nil, err
	}
	if x != (shape{start: true}) {
		p.shape = unique.Make(x)
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
