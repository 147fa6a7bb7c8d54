package uabin

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// ReadResponse answers a ReadRequest.
type ReadResponse struct {
	ResponseHeader *ua.ResponseHeader
	Results        []DataValue
}

// CallResponse answers a CallRequest.
type CallResponse struct {
	ResponseHeader *ua.ResponseHeader
	Results        []CallResult
}

// CallResult is the outcome of one method.
type CallResult struct {
	Status ua.StatusCode
	Inputs []ua.StatusCode // of each argument
	Output []Variant
}

// PublishResponse answers a PublishRequest.
type PublishResponse struct {
	ResponseHeader *ua.ResponseHeader
	Subscription   uint32
	Available      []uint32 // sequence numbers that can be had again
	More           bool
	Message        Notification
	Results        []ua.StatusCode // of the acknowledgements
}

// RepublishResponse answers a RepublishRequest.
type RepublishResponse struct {
	ResponseHeader *ua.ResponseHeader
	Message        Notification
}

// Notification is a NotificationMessage.
type Notification struct {
	Sequence uint32
	Time     time.Time
	Changes  []Change
	// Status is the newest status change of the subscription, with HasStatus.
	Status    ua.StatusCode
	HasStatus bool
	KeepAlive bool // there was no data at all
}

// Change is a new value of one monitored item.
type Change struct {
	Handle uint32 // the client's
	Value  DataValue
}

// known are the responses that can be decoded into gopcua's structs by reflection.
func known(t uint32) any {
	switch t {
	case id.ServiceFault_Encoding_DefaultBinary:
		return new(ua.ServiceFault)
	case id.FindServersResponse_Encoding_DefaultBinary:
		return new(ua.FindServersResponse)
	case id.GetEndpointsResponse_Encoding_DefaultBinary:
		return new(ua.GetEndpointsResponse)
	case id.OpenSecureChannelResponse_Encoding_DefaultBinary:
		return new(ua.OpenSecureChannelResponse)
	case id.CreateSessionResponse_Encoding_DefaultBinary:
		return new(ua.CreateSessionResponse)
	case id.ActivateSessionResponse_Encoding_DefaultBinary:
		return new(ua.ActivateSessionResponse)
	case id.CloseSessionResponse_Encoding_DefaultBinary:
		return new(ua.CloseSessionResponse)
	case id.BrowseResponse_Encoding_DefaultBinary:
		return new(ua.BrowseResponse)
	case id.BrowseNextResponse_Encoding_DefaultBinary:
		return new(ua.BrowseNextResponse)
	case id.TranslateBrowsePathsToNodeIDsResponse_Encoding_DefaultBinary:
		return new(ua.TranslateBrowsePathsToNodeIDsResponse)
	case id.WriteResponse_Encoding_DefaultBinary:
		return new(ua.WriteResponse)
	case id.CreateSubscriptionResponse_Encoding_DefaultBinary:
		return new(ua.CreateSubscriptionResponse)
	case id.DeleteSubscriptionsResponse_Encoding_DefaultBinary:
		return new(ua.DeleteSubscriptionsResponse)
	case id.TransferSubscriptionsResponse_Encoding_DefaultBinary:
		return new(ua.TransferSubscriptionsResponse)
	case id.CreateMonitoredItemsResponse_Encoding_DefaultBinary:
		return new(ua.CreateMonitoredItemsResponse)
	case id.DeleteMonitoredItemsResponse_Encoding_DefaultBinary:
		return new(ua.DeleteMonitoredItemsResponse)
	case id.SetTriggeringResponse_Encoding_DefaultBinary:
		return new(ua.SetTriggeringResponse)
	default:
		return nil
	}
}

// DecodeResponse decodes a service response. A ServiceFault is returned as one. The service result is the caller's to judge: Header has it.
func DecodeResponse(b []byte) (any, error) {
	r := NewReader(b)
	t := r.ExpandedNodeID().NodeID
	if r.err != nil {
		return nil, r.err
	}
	if t.Namespace() != 0 || t.StringID() != "" {
		return nil, fmt.Errorf("response of unknown type %s", t)
	}
	out := r.response(t.IntID())
	if r.err != nil {
		return nil, fmt.Errorf("response of type %s: %w", t, r.err)
	}
	if out == nil {
		return nil, fmt.Errorf("response of unknown type %s", t)
	}
	return out, nil
}

func (r *Reader) response(t uint32) any {
	switch t {
	case id.ReadResponse_Encoding_DefaultBinary:
		out := &ReadResponse{ResponseHeader: r.header()}
		out.Results = slice(r, composite, r.DataValue)
		return out
	case id.CallResponse_Encoding_DefaultBinary:
		out := &CallResponse{ResponseHeader: r.header()}
		out.Results = slice(r, composite, r.callResult)
		return out
	case id.PublishResponse_Encoding_DefaultBinary:
		return r.publish()
	case id.RepublishResponse_Encoding_DefaultBinary:
		out := &RepublishResponse{ResponseHeader: r.header()}
		if r.err == nil && r.Len() > 0 {
			out.Message = r.notification()
		}
		return out
	}
	out := known(t)
	if out != nil {
		r.decode(reflect.ValueOf(out).Elem())
	}
	return out
}

// Header returns a decoded response's header, nil if it has none.
func Header(response any) *ua.ResponseHeader {
	switch m := response.(type) {
	case *ReadResponse:
		return m.ResponseHeader
	case *CallResponse:
		return m.ResponseHeader
	case *PublishResponse:
		return m.ResponseHeader
	case *RepublishResponse:
		return m.ResponseHeader
	case ua.Response:
		return m.Header()
	default:
		return nil
	}
}

func (r *Reader) header() *ua.ResponseHeader {
	h := new(ua.ResponseHeader)
	r.decode(reflect.ValueOf(h).Elem())
	return h
}

func (r *Reader) callResult() CallResult {
	c := CallResult{Status: r.StatusCode()}
	c.Inputs = slice(r, 4, r.StatusCode)
	slice(r, composite, r.DiagnosticInfo)
	c.Output = slice(r, composite, r.Variant)
	return c
}

func (r *Reader) publish() *PublishResponse {
	p := &PublishResponse{ResponseHeader: r.header()}
	if r.err != nil || r.Len() == 0 || p.ResponseHeader.ServiceResult != ua.StatusOK {
		return p // some servers send a bare header with a bad result
	}
	p.Subscription = r.Uint32()
	p.Available = slice(r, 4, r.Uint32)
	p.More = r.Bool()
	p.Message = r.notification()
	p.Results = slice(r, 4, r.StatusCode)
	return p
}

// notification reads a NotificationMessage. Notifications of kinds that nobody asked for are skipped.
func (r *Reader) notification() Notification {
	n := Notification{Sequence: r.Uint32(), Time: r.Time()}
	count := r.Array(3)
	n.KeepAlive = count == 0
	for range count {
		t := r.ExpandedNodeID().NodeID
		encoding := r.Uint8()
		if encoding == ua.ExtensionObjectEmpty {
			continue
		}
		body := NewReader(r.raw())
		if r.err != nil {
			return n
		}
		body.depth, body.budget = r.depth, r.budget
		if encoding != ua.ExtensionObjectBinary || t.Namespace() != 0 {
			continue
		}
		switch t.IntID() {
		case id.DataChangeNotification_Encoding_DefaultBinary:
			changes := body.changes()
			if n.Changes == nil {
				n.Changes = changes
			} else {
				n.Changes = append(n.Changes, changes...)
			}
		case id.StatusChangeNotification_Encoding_DefaultBinary:
			n.Status, n.HasStatus = body.StatusCode(), true
		}
		r.budget = body.budget
		if body.err != nil {
			r.Fail(body.err)
			return n
		}
	}
	return n
}

func (r *Reader) changes() []Change {
	n := r.Array(5)
	if !r.spend(n) {
		return nil
	}
	out := make([]Change, 0, n)
	for range n {
		if out = append(out, Change{Handle: r.Uint32(), Value: r.DataValue()}); r.err != nil {
			return nil
		}
	}
	return out
}

var errNoDecoder = errors.New("value of a kind that responses do not have")

// decode fills a struct of gopcua's, field by field in the order of the encoding.
func (r *Reader) decode(v reflect.Value) {
	if r.err != nil {
		return
	}
	if r.special(v) {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.Bool())
	case reflect.Uint8:
		v.SetUint(uint64(r.Uint8()))
	case reflect.Uint16:
		v.SetUint(uint64(r.Uint16()))
	case reflect.Uint32:
		v.SetUint(uint64(r.Uint32()))
	case reflect.Uint64:
		v.SetUint(r.Uint64())
	case reflect.Int16:
		v.SetInt(int64(r.Int16()))
	case reflect.Int32:
		v.SetInt(int64(r.Int32()))
	case reflect.Int64:
		v.SetInt(r.Int64())
	case reflect.Float32:
		v.SetFloat(float64(r.Float32()))
	case reflect.Float64:
		v.SetFloat(r.Float64())
	case reflect.String:
		v.SetString(r.String())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.decode(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			r.decode(v.Field(i))
		}
	case reflect.Slice:
		r.decodeSlice(v)
	default:
		r.Fail(fmt.Errorf("%w: %s", errNoDecoder, v.Type()))
	}
}

func (r *Reader) decodeSlice(v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes(r.Bytes())
		return
	}
	n := r.Array(minSize(v.Type().Elem()))
	if n == 0 || v.Type().Elem().Kind() == reflect.Pointer && !r.spend(n) {
		return
	}
	s := reflect.MakeSlice(v.Type(), n, n)
	for i := range n {
		if r.decode(s.Index(i)); r.err != nil {
			return
		}
	}
	v.Set(s)
}

// special reads the types whose encoding is not that of their fields.
func (r *Reader) special(v reflect.Value) bool {
	var got any
	switch v.Interface().(type) {
	case time.Time:
		got = r.Time()
	case *ua.NodeID:
		got = r.NodeID()
	case *ua.ExpandedNodeID:
		got = r.ExpandedNodeID()
	case *ua.GUID:
		got = r.GUID()
	case *ua.LocalizedText:
		got = r.LocalizedText()
	case *ua.DiagnosticInfo:
		got = r.DiagnosticInfo()
	case *ua.ExtensionObject:
		x := r.Extension()
		got = &ua.ExtensionObject{TypeID: x.Type, EncodingMask: x.Encoding, Value: x.Body}
	case *ua.Variant, *ua.DataValue:
		r.Fail(fmt.Errorf("%w: %s", errNoDecoder, v.Type()))
		return true
	default:
		return false
	}
	v.Set(reflect.ValueOf(got))
	return true
}

// minSize is how many bytes a value of a type takes at least.
func minSize(t reflect.Type) int {
	switch reflect.Zero(t).Interface().(type) {
	case time.Time:
		return 8
	case *ua.NodeID, *ua.ExpandedNodeID:
		return 2
	case *ua.GUID:
		return 16
	case *ua.LocalizedText, *ua.DiagnosticInfo:
		return 1
	case *ua.ExtensionObject:
		return 3
	}
	switch t.Kind() {
	case reflect.Pointer:
		return minSize(t.Elem())
	case reflect.Struct:
		n := 0
		for i := range t.NumField() {
			n += minSize(t.Field(i).Type)
		}
		return n
	case reflect.String, reflect.Slice:
		return 4
	case reflect.Bool, reflect.Uint8:
		return 1
	default:
		return int(t.Size())
	}
}
