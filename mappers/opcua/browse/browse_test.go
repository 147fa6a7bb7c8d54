package browse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// fakeServer has one folder with children, pages of three, and a limit of four attributes in one request.
type fakeServer struct {
	children []*ua.ReferenceDescription
	types    map[string]*ua.NodeID // of variables
	ranks    map[string]int32
	access   map[string]uint8
	super    map[string]*ua.NodeID
	arrays   map[string]bool

	page, limit int
	open        int // continuation points
	endless     bool
	asked       int
}

func (s *fakeServer) result(from int) *ua.BrowseResult {
	end := min(from+s.page, len(s.children))
	r := &ua.BrowseResult{References: s.children[from:end]}
	if s.endless {
		r.References, r.ContinuationPoint = s.children[:1], []byte("0")
	} else if end < len(s.children) {
		r.ContinuationPoint = fmt.Append(nil, end)
		s.open++
	}
	return r
}

func (s *fakeServer) Ask(_ context.Context, req ua.Request) (any, error) {
	s.asked++
	switch q := req.(type) {
	case *ua.BrowseRequest:
		b := q.NodesToBrowse[0]
		if b.BrowseDirection == ua.BrowseDirectionInverse {
			r := &ua.BrowseResult{}
			if up := s.super[b.NodeID.String()]; up != nil {
				r.References = []*ua.ReferenceDescription{{NodeID: ua.NewExpandedNodeID(up, "", 0)}}
			}
			return &ua.BrowseResponse{Results: []*ua.BrowseResult{r}}, nil
		}
		if b.NodeID.IntID() == 404 {
			return &ua.BrowseResponse{Results: []*ua.BrowseResult{{StatusCode: ua.StatusBadNodeIDUnknown}}}, nil
		}
		return &ua.BrowseResponse{Results: []*ua.BrowseResult{s.result(0)}}, nil
	case *ua.BrowseNextRequest:
		s.open--
		if q.ReleaseContinuationPoints {
			return &ua.BrowseNextResponse{}, nil
		}
		var from int
		if _, err := fmt.Sscan(string(q.ContinuationPoints[0]), &from); err != nil {
			return nil, err
		}
		return &ua.BrowseNextResponse{Results: []*ua.BrowseResult{s.result(from)}}, nil
	case *ua.ReadRequest:
		if len(q.NodesToRead) > s.limit {
			return nil, fmt.Errorf("read: %w", ua.StatusBadTooManyOperations)
		}
		res := &uabin.ReadResponse{}
		for _, r := range q.NodesToRead {
			var v any
			switch key := r.NodeID.String(); r.AttributeID {
			case ua.AttributeIDDataType:
				if v = s.types[key]; strings.HasSuffix(key, "s=speed") { // as servers made with gopcua send it
					v = ua.NewExpandedNodeID(s.types[key], "", 0)
				}
			case ua.AttributeIDValueRank:
				v = s.ranks[key]
			case ua.AttributeIDUserAccessLevel:
				v = s.access[key]
			}
			res.Results = append(res.Results, uabin.DataValue{Value: uabin.Variant{V: v, Array: s.arrays[r.NodeID.String()] && r.AttributeID == ua.AttributeIDValue}})
		}
		return res, nil
	default:
		return nil, errors.New("unexpected request")
	}
}

func child(n *ua.NodeID, name string, class ua.NodeClass) *ua.ReferenceDescription {
	return &ua.ReferenceDescription{NodeID: ua.NewExpandedNodeID(n, "", 0), DisplayName: &ua.LocalizedText{Text: name}, BrowseName: &ua.QualifiedName{Name: name}, NodeClass: class}
}

func std(n uint32) *ua.NodeID { return ua.NewNumericNodeID(0, n) }

func plant() *fakeServer {
	s := &fakeServer{types: make(map[string]*ua.NodeID), ranks: make(map[string]int32), access: make(map[string]uint8), super: make(map[string]*ua.NodeID), arrays: make(map[string]bool), page: 3, limit: 4}
	variable := func(name string, t *ua.NodeID, rank int32, access uint8) {
		n := ua.NewStringNodeID(2, name)
		s.children = append(s.children, child(n, name, ua.NodeClassVariable))
		s.types[n.String()], s.ranks[n.String()], s.access[n.String()] = t, rank, access
	}
	s.children = append(s.children, child(ua.NewNumericNodeID(2, 7), "Folder", ua.NodeClassObject))
	variable("on", std(id.Boolean), -1, 3)
	variable("speed", std(id.Float), -1, 1)
	variable("took", std(290), -1, 1)
	variable("state", ua.NewNumericNodeID(2, 3000), -1, 3)
	variable("list", std(id.Int32), 1, 3)
	variable("pump", ua.NewNumericNodeID(2, 3001), -1, 3)
	variable("strange", ua.NewNumericNodeID(2, 3999), -1, 1)
	variable("raw", std(id.ByteString), -1, 1)
	variable("any", std(id.Int16), -2, 1)
	variable("some", std(id.Int16), -3, 1)
	s.arrays[ua.NewStringNodeID(2, "some").String()] = true
	s.super["i=290"] = std(id.Double)
	s.super[ua.NewNumericNodeID(2, 3000).String()] = std(id.Enumeration)
	s.super[ua.NewNumericNodeID(2, 3001).String()] = std(id.Structure)
	s.children = append(s.children, child(ua.NewStringNodeID(2, "Reset"), "Reset", ua.NodeClassMethod))
	return s
}

var namespaces = []string{"http://opcfoundation.org/UA/", "urn:server", "urn:a;b%c"}

func TestChildren(t *testing.T) {
	s := plant()
	got, err := Lister{Ask: s, Namespaces: namespaces}.Children(t.Context(), nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	const ns = "nsu=urn:a%3Bb%25c;"
	want := []device.BrowseEntry{
		{Node: ns + "i=7", Name: "Folder"},
		{Node: ns + "s=on", Name: "on", Type: device.TypeBoolean, Writable: true},
		{Node: ns + "s=speed", Name: "speed", Type: device.TypeFloat},
		{Node: ns + "s=took", Name: "took", Type: device.TypeDouble},
		{Node: ns + "s=state", Name: "state", Type: device.TypeInt, Writable: true},
		{Node: ns + "s=list", Name: "list", Type: device.TypeString, Writable: true},
		{Node: ns + "s=pump", Name: "pump", Type: device.TypeString, Writable: true},
		{Node: ns + "s=strange", Name: "strange", Type: device.TypeString},
		{Node: ns + "s=raw", Name: "raw", Type: device.TypeBytes},
		{Node: ns + "s=any", Name: "any", Type: device.TypeInt},
		{Node: ns + "s=some", Name: "some", Type: device.TypeString},
		{Node: ns + "s=Reset", Name: "Reset", Type: device.TypeString},
	}
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d: %+v", len(got), len(want), got)
	}
	for i, w := range want {
		g := got[i]
		if g.Node != w.Node || g.Name != w.Name || g.Type != w.Type || g.Writable != w.Writable {
			t.Errorf("%+v, want %+v", g, w)
		}
		switch {
		case w.Name == "Folder" && g.Visitor != nil:
			t.Errorf("a folder has %v", g.Visitor)
		case w.Name == "Reset" && (g.Visitor["methodID"] != w.Node || g.Visitor["nodeID"] != "i=85"):
			t.Errorf("a method has %v", g.Visitor)
		case w.Type != 0 && w.Name != "Reset" && g.Visitor["nodeID"] != w.Node:
			t.Errorf("%s has %v", w.Name, g.Visitor)
		}
	}
	if s.open != 0 {
		t.Errorf("%d continuation points are left", s.open)
	}
}

func TestLimits(t *testing.T) {
	s := plant()
	for _, limit := range []int{1, 3, 4, 9, 10} {
		got, err := Lister{Ask: s}.Children(t.Context(), nil, limit)
		if err != nil || len(got) != limit || s.open != 0 {
			t.Errorf("limit %d: %d entries, %d continuation points are left, %v", limit, len(got), s.open, err)
		}
	}
	s.endless, s.asked = true, 0
	got, err := Lister{Ask: s}.Children(t.Context(), nil, 100)
	if err != nil || len(got) != 1 || s.asked > 20 {
		t.Errorf("a server that repeats itself: %d entries after %d requests, %v", len(got), s.asked, err)
	}
}

func TestRubbish(t *testing.T) {
	s := plant()
	long := child(ua.NewStringNodeID(2, strings.Repeat("x", 5000)), "long", ua.NodeClassVariable)
	far := child(std(1), "far", ua.NodeClassVariable)
	far.NodeID.ServerIndex = 3
	bad := child(ua.NewStringNodeID(2, "\xff"), "bad", ua.NodeClassVariable)
	name := child(ua.NewStringNodeID(9, "n"), strings.Repeat("ü", 300), ua.NodeClassObject)
	s.children = []*ua.ReferenceDescription{nil, {}, long, far, bad, name, name}
	got, err := Lister{Ask: s, Namespaces: namespaces}.Children(t.Context(), nil, 100)
	if err != nil || len(got) != 1 || got[0].Node != "ns=9;s=n" || len(got[0].Name) != 256 {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := (Lister{Ask: s}).Children(t.Context(), std(404), 1); !errors.Is(err, ua.StatusBadNodeIDUnknown) || !strings.Contains(err.Error(), "i=404") {
		t.Errorf("an unknown node: %v", err)
	}
}
