package opcualean

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// dispatch answers a request.
func (c *conn) dispatch(request uint32, message []byte) error {
	_, req, err := ua.DecodeService(message)
	if err != nil {
		return err
	}
	c.s.requests.Add(1)
	r, ok := req.(ua.Request)
	if !ok {
		return fmt.Errorf("%T is no request", req)
	}
	h := r.Header().RequestHandle
	c.mu.Lock()
	defer c.mu.Unlock()
	switch q := req.(type) {
	case *ua.PublishRequest:
		c.waiting = append(c.waiting, publishRequest{request, h})
		c.flush(time.Now())
		return nil
	case *ua.ReadRequest:
		c.readValues(q, h)
		return c.send(request, c.body)
	}
	body, err := encode(c.answer(req, h))
	if err != nil {
		return err
	}
	return c.send(request, body)
}

func (c *conn) answer(req any, h uint32) ua.Response {
	switch q := req.(type) {
	case *ua.GetEndpointsRequest:
		return &ua.GetEndpointsResponse{ResponseHeader: header(h), Endpoints: endpoints(q.EndpointURL)}
	case *ua.CreateSessionRequest:
		return &ua.CreateSessionResponse{
			ResponseHeader: header(h), SessionID: ua.NewNumericNodeID(1, 1), AuthenticationToken: ua.NewNumericNodeID(1, 2), RevisedSessionTimeout: q.RequestedSessionTimeout,
			ServerNonce: make([]byte, 32), ServerEndpoints: endpoints(q.EndpointURL), ServerSignature: &ua.SignatureData{},
		}
	case *ua.ActivateSessionRequest:
		return &ua.ActivateSessionResponse{ResponseHeader: header(h), ServerNonce: make([]byte, 32)}
	case *ua.CloseSessionRequest:
		return &ua.CloseSessionResponse{ResponseHeader: header(h)}
	case *ua.CreateSubscriptionRequest:
		n := uint32(len(c.subs) + 1)
		most := int(q.MaxNotificationsPerPublish)
		if most == 0 || most > 10000 {
			most = 10000
		}
		c.subs[n] = &subscription{id: n, most: most}
		return &ua.CreateSubscriptionResponse{ResponseHeader: header(h), SubscriptionID: n, RevisedPublishingInterval: 1000, RevisedLifetimeCount: 1000, RevisedMaxKeepAliveCount: 5}
	case *ua.CreateMonitoredItemsRequest:
		return c.createItems(q, h)
	case *ua.DeleteMonitoredItemsRequest:
		return c.deleteItems(q, h)
	case *ua.DeleteSubscriptionsRequest:
		for _, n := range q.SubscriptionIDs {
			if sub := c.subs[n]; sub != nil {
				c.s.items.Add(-int64(len(sub.items)))
				delete(c.subs, n)
			}
		}
		return &ua.DeleteSubscriptionsResponse{ResponseHeader: header(h), Results: make([]ua.StatusCode, len(q.SubscriptionIDs))}
	default:
		fault := header(h)
		fault.ServiceResult = ua.StatusBadServiceUnsupported
		return &ua.ServiceFault{ResponseHeader: fault}
	}
}

func endpoints(url string) []*ua.EndpointDescription {
	return []*ua.EndpointDescription{{
		EndpointURL: url, Server: &ua.ApplicationDescription{ApplicationURI: "urn:skerry:lean", ApplicationName: &ua.LocalizedText{}},
		SecurityMode: ua.MessageSecurityModeNone, SecurityPolicyURI: ua.SecurityPolicyURINone, TransportProfileURI: "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary",
		UserIdentityTokens: []*ua.UserTokenPolicy{{PolicyID: "anonymous", TokenType: ua.UserTokenTypeAnonymous}},
	}}
}

func (c *conn) createItems(q *ua.CreateMonitoredItemsRequest, h uint32) ua.Response {
	res := &ua.CreateMonitoredItemsResponse{ResponseHeader: header(h)}
	sub := c.subs[q.SubscriptionID]
	if sub == nil {
		res.ResponseHeader.ServiceResult = ua.StatusBadSubscriptionIDInvalid
		return res
	}
	for _, m := range q.ItemsToCreate {
		sub.nextItem++
		sub.items = append(sub.items, monitored{sub.nextItem, m.RequestedParameters.ClientHandle, m.ItemToMonitor.NodeID.IntID()})
		res.Results = append(res.Results, &ua.MonitoredItemCreateResult{
			MonitoredItemID: sub.nextItem, RevisedSamplingInterval: 1000, RevisedQueueSize: 1, FilterResult: ua.NewExtensionObject(nil),
		})
	}
	c.s.items.Add(int64(len(q.ItemsToCreate)))
	return res
}

func (c *conn) deleteItems(q *ua.DeleteMonitoredItemsRequest, h uint32) ua.Response {
	res := &ua.DeleteMonitoredItemsResponse{ResponseHeader: header(h), Results: make([]ua.StatusCode, len(q.MonitoredItemIDs))}
	sub := c.subs[q.SubscriptionID]
	if sub == nil {
		return res
	}
	gone := make(map[uint32]bool, len(q.MonitoredItemIDs))
	for _, n := range q.MonitoredItemIDs {
		gone[n] = true
	}
	kept := sub.items[:0]
	for _, m := range sub.items {
		if !gone[m.id] {
			kept = append(kept, m)
		}
	}
	c.s.items.Add(int64(len(kept) - len(sub.items)))
	sub.items, sub.due = kept, min(sub.due, len(kept))
	return res
}

// readValues encodes a ReadResponse into c.body.
func (c *conn) readValues(q *ua.ReadRequest, h uint32) {
	le := binary.LittleEndian
	now := ticks(time.Now())
	b := append(c.body[:0], 1, 0, 0x7a, 0x02) // ReadResponse, i=634
	b = le.AppendUint64(b, now)
	b = le.AppendUint32(b, h)
	b = append(b, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(q.NodesToRead)))
	for _, n := range q.NodesToRead {
		if n.NodeID.Namespace() == 1 && n.AttributeID == ua.AttributeIDValue {
			b = append(b, ua.DataValueValue|ua.DataValueSourceTimestamp, byte(ua.TypeIDDouble))
			b = le.AppendUint64(b, math.Float64bits(c.s.value(n.NodeID.IntID())))
			b = le.AppendUint64(b, now)
			c.s.read.Add(1)
			continue
		}
		b = append(b, attribute(n)...)
	}
	c.body = append(b, 0, 0, 0, 0) // no diagnostics
}

// attribute is a DataValue of what is read once.
func attribute(n *ua.ReadValueID) []byte {
	var v *ua.Variant
	switch {
	case n.AttributeID == ua.AttributeIDDataType:
		v = ua.MustVariant(ua.NewNumericNodeID(0, id.Double))
	case n.AttributeID == ua.AttributeIDValueRank:
		v = ua.MustVariant(int32(-1))
	case n.AttributeID == ua.AttributeIDAccessLevel || n.AttributeID == ua.AttributeIDUserAccessLevel:
		v = ua.MustVariant(byte(1))
	case n.NodeID.IntID() == id.Server_NamespaceArray:
		v = ua.MustVariant([]string{"http://opcfoundation.org/UA/", "urn:skerry:lean"})
	case n.NodeID.IntID() == id.Server_ServerStatus_State:
		v = ua.MustVariant(int32(0))
	}
	d := &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadNodeIDUnknown}
	if v != nil {
		d = &ua.DataValue{EncodingMask: ua.DataValueValue, Value: v}
	}
	b, err := d.Encode()
	if err != nil {
		return []byte{0}
	}
	return b
}
