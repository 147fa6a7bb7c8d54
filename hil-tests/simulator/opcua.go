package simulator

import (
	"context"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/server/attrs"
	"github.com/gopcua/opcua/ua"
)

// changeEvery is how often subscribers are told of points that move.
const changeEvery = 100 * time.Millisecond

// nodes is the namespace of a server's points. It checks writes, which gopcua's own namespace takes as they come.
type nodes struct {
	*server.NodeNameSpace
	device *Device
}

// startOPCUA starts a server with the points as variables ns=1;s=NAME below Objects, without security.
func (s *Simulator) startOPCUA(ctx context.Context, o *OPCUA) error {
	host, port, err := endpoint(ctx, o.Listen)
	if err != nil {
		return fmt.Errorf("simulate OPC UA: %w", err)
	}
	d := newDevice(o.Name, o.Points, o.Fault, time.Now())
	srv := server.New(server.EndPoint(host, port), server.EnableSecurity("None", ua.MessageSecurityModeNone), server.EnableAuthMode(ua.UserTokenTypeAnonymous),
		server.ServerName("Skerry simulator "+o.Name), server.ManufacturerName("Skerry"), server.ProductName("skerry-sim"))
	ns := &nodes{NodeNameSpace: server.NewNodeNameSpace(srv, o.Namespace), device: d}
	// The namespace that gopcua has just added is replaced by the one that checks.
	srv.Namespaces()[ns.ID()] = ns
	root, err := srv.Namespace(0)
	if err != nil {
		return err
	}
	var ids []*ua.NodeID
	for _, p := range d.points {
		n := ns.variable(p)
		ns.AddNode(n)
		root.Objects().AddRef(n, id.Organizes, true)
		ids = append(ids, n.ID())
	}
	if err := srv.Start(s.ctx); err != nil {
		return fmt.Errorf("simulate OPC UA: %w", err)
	}
	s.hold(srv)
	s.devices = append(s.devices, d)
	s.addrs = append(s.addrs, net.JoinHostPort(host, strconv.Itoa(port)))
	s.work.Go(func() { s.tell(srv, d, ids) })
	s.log.Info("OPC UA", "endpoint", fmt.Sprintf("opc.tcp://%s:%d", host, port), "namespace", o.Namespace, "points", len(d.points))
	return nil
}

// endpoint splits host:port; port 0 is a free one, found now because the server has to name it in its endpoints.
func endpoint(ctx context.Context, listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, err
	}
	if port, err = strconv.Atoi(text); err != nil || port != 0 {
		return host, port, err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return "", 0, err
	}
	port = ln.Addr().(*net.TCPAddr).Port
	return host, port, ln.Close()
}

// tell notifies subscribers of values that have changed.
func (s *Simulator) tell(srv *server.Server, d *Device, ids []*ua.NodeID) {
	tick := time.NewTicker(changeEvery)
	defer tick.Stop()
	last := make([]float64, len(ids))
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			d.mu.Lock()
			d.move(now)
			var changed []*ua.NodeID
			for i, p := range d.points {
				if p.value != last[i] {
					last[i] = p.value
					changed = append(changed, ids[i])
				}
			}
			d.mu.Unlock()
			for _, n := range changed {
				srv.ChangeNotification(n)
			}
		}
	}
}

// dataTypes are the node ids of the built-in types (Part 6, section 5.1.2).
var dataTypes = map[string]uint32{
	"bool": id.Boolean, "int16": id.Int16, "uint16": id.UInt16, "int32": id.Int32, "uint32": id.UInt32, "int64": id.Int64, "uint64": id.UInt64,
	"float32": id.Float, "float64": id.Double,
}

func (n *nodes) variable(p *point) *server.Node {
	access := byte(ua.AccessLevelTypeCurrentRead)
	if p.Writable {
		access |= byte(ua.AccessLevelTypeCurrentWrite)
	}
	text := server.DataValueFromValue
	return server.NewNode(ua.NewStringNodeID(n.ID(), p.Name), server.Attributes{
		ua.AttributeIDNodeClass:       text(uint32(ua.NodeClassVariable)),
		ua.AttributeIDBrowseName:      text(attrs.BrowseName(p.Name)),
		ua.AttributeIDDisplayName:     text(attrs.DisplayName(p.Name, "")),
		ua.AttributeIDDescription:     text(&ua.LocalizedText{}),
		ua.AttributeIDDataType:        text(ua.NewNumericExpandedNodeID(0, dataTypes[p.Type])),
		ua.AttributeIDValueRank:       text(int32(-1)),
		ua.AttributeIDAccessLevel:     text(access),
		ua.AttributeIDUserAccessLevel: text(access),
	}, nil, func() *ua.DataValue { return n.device.dataValue(p) })
}

// dataValue is a point as OPC UA has it.
func (d *Device) dataValue(p *point) *ua.DataValue {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.move(now)
	v := &ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp, SourceTimestamp: d.moved, ServerTimestamp: now}
	if d.fault.Kind == Exception {
		v.EncodingMask, v.Status = ua.DataValueStatusCode|ua.DataValueServerTimestamp, ua.StatusBadSensorFailure
		return v
	}
	v.Value = ua.MustVariant(p.native())
	return v
}

// native returns a value in its Go type.
func (p *point) native() any {
	whole := math.Round(p.value)
	switch p.Type {
	case "bool":
		return p.value != 0
	case "int16":
		return int16(whole)
	case "uint16":
		return uint16(whole)
	case "int32":
		return int32(whole)
	case "uint32":
		return uint32(whole)
	case "int64":
		return int64(whole)
	case "uint64":
		return uint64(whole)
	case "float32":
		return float32(p.value)
	default:
		return p.value
	}
}

// Attribute implements server.NameSpace. A server that is mute or slow is so in its values: its session stays.
func (n *nodes) Attribute(node *ua.NodeID, attr ua.AttributeID) *ua.DataValue {
	if f := n.device.Fault(); attr == ua.AttributeIDValue && (f.Kind == Slow || f.Kind == Mute) {
		time.Sleep(max(f.delay(), defaultDelay))
	}
	return n.NodeNameSpace.Attribute(node, attr)
}

// SetAttribute implements server.NameSpace: only values, only of the node's type, only where they may be written.
func (n *nodes) SetAttribute(node *ua.NodeID, attr ua.AttributeID, v *ua.DataValue) ua.StatusCode {
	if attr != ua.AttributeIDValue {
		return ua.StatusBadNotWritable
	}
	n.device.mu.Lock()
	defer n.device.mu.Unlock()
	p := n.device.byName[node.StringID()]
	switch {
	case p == nil:
		return ua.StatusBadNodeIDUnknown
	case !p.Writable:
		return ua.StatusBadNotWritable
	case v == nil || v.Value == nil:
		return ua.StatusBadTypeMismatch
	}
	f, ok := number(v.Value.Value())
	if want := ua.MustVariant(p.native()).Type(); !ok || v.Value.Type() != want {
		return ua.StatusBadTypeMismatch
	}
	p.value = f
	return ua.StatusOK
}

func number(v any) (float64, bool) {
	switch x := v.(type) {
	case bool:
		if x {
			return 1, true
		}
		return 0, true
	case int16:
		return float64(x), true
	case uint16:
		return float64(x), true
	case int32:
		return float64(x), true
	case uint32:
		return float64(x), true
	case int64:
		return float64(x), true
	case uint64:
		return float64(x), true
	case float32:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}
