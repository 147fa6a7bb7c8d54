package cri

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/skerry/skerry/firmware/cri"
)

// peer is a grpc-go server of every CRI method. It notes each request and answers with a filled response, or as
// behave says.
type peer struct {
	*grpc.Server
	behave func(context.Context, protoreflect.MethodDescriptor) error

	mu       sync.Mutex
	requests map[string]proto.Message
	answers  map[string]proto.Message
}

func serve(t *testing.T, socket string, behave func(context.Context, protoreflect.MethodDescriptor) error) *peer {
	t.Helper()
	p := &peer{behave: behave, requests: map[string]proto.Message{}, answers: map[string]proto.Message{}}
	p.Server = grpc.NewServer(grpc.UnknownServiceHandler(p.handle))
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Serve(l) //nolint:errcheck // ends with Stop
	}()
	t.Cleanup(func() { p.Stop(); <-done })
	return p
}

// start serves on a fresh socket and returns it with a client.
func start(t *testing.T, behave func(context.Context, protoreflect.MethodDescriptor) error) (*peer, *cri.Client) {
	t.Helper()
	socket := socketPath(t)
	p := serve(t, socket, behave)
	c := cri.New(cri.Options{Socket: "unix://" + socket})
	t.Cleanup(c.Close)
	return p, c
}

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri") // t.TempDir may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// method finds "/runtime.v1.RuntimeService/Version" in cri-api's descriptor.
func method(path string) protoreflect.MethodDescriptor {
	service, name, _ := strings.Cut(strings.TrimPrefix(path, "/runtime.v1."), "/")
	s := v1.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto.Services().ByName(protoreflect.Name(service))
	if s == nil {
		return nil
	}
	return s.Methods().ByName(protoreflect.Name(name))
}

func (p *peer) handle(_ any, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	m := method(path)
	if m == nil {
		return status.Errorf(codes.Unimplemented, "cri-api has no method %s", path)
	}
	request := dynamicpb.NewMessage(m.Input())
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	answer := dynamicpb.NewMessage(m.Output())
	(&filler{}).message(answer)
	p.mu.Lock()
	p.requests[string(m.Name())], p.answers[string(m.Name())] = request, answer
	p.mu.Unlock()
	if p.behave != nil {
		if err := p.behave(stream.Context(), m); err != nil {
			return err
		}
	}
	if err := stream.SendMsg(answer); err != nil {
		return err
	}
	if m.IsStreamingServer() {
		return stream.SendMsg(answer)
	}
	return nil
}

// TestEveryMethod calls each method of the client that has the name of a CRI method, with filled arguments, and compares what
// the server got with the arguments and what the client returned with the answer.
func TestEveryMethod(t *testing.T) {
	p, c := start(t, nil)
	calls := 0
	for path := range paths() {
		name := path[strings.LastIndex(path, "/")+1:]
		call := reflect.ValueOf(c).MethodByName(name)
		if !call.IsValid() {
			continue
		}
		calls++
		var events []any
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		n := 100
		for i := 1; i < call.Type().NumIn(); i++ {
			arg := reflect.New(call.Type().In(i)).Elem()
			switch arg.Interface().(type) {
			case time.Duration:
				arg.SetInt(int64(7 * time.Second))
			case func(*cri.ContainerEventResponse) error:
				arg.Set(reflect.ValueOf(func(e *cri.ContainerEventResponse) error { events = append(events, e); return nil }))
			default:
				fill(t, arg, &n)
			}
			args = append(args, arg)
		}
		results := call.Call(args)
		if err, _ := results[len(results)-1].Interface().(error); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p.checkRequest(t, name, args[1:])
		if name == "GetContainerEvents" {
			if len(events) != 2 {
				t.Errorf("%d events arrived of 2", len(events))
			}
			results = []reflect.Value{reflect.ValueOf(events[0])}
		} else {
			results = results[:len(results)-1]
		}
		p.checkResult(t, name, results)
	}
	if calls != 28 {
		t.Errorf("the client has %d methods of CRI, expected 28: a name does not match its method's", calls)
	}
}

// paths yields the path of every method in cri-api's descriptor.
func paths() func(func(string) bool) {
	return func(yield func(string) bool) {
		services := v1.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto.Services()
		for i := range services.Len() {
			for j := range services.Get(i).Methods().Len() {
				m := services.Get(i).Methods().Get(j)
				if !yield("/" + string(m.Parent().FullName()) + "/" + string(m.Name())) {
					return
				}
			}
		}
	}
}

// checkRequest compares what the server got with the arguments: every one must be in a field of the request, or be the request.
func (p *peer) checkRequest(t *testing.T, name string, args []reflect.Value) {
	t.Helper()
	p.mu.Lock()
	request := p.requests[name].ProtoReflect()
	p.mu.Unlock()
	var got []string
	request.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		got = append(got, canonical(t, fd, v))
		return true
	})
	for _, arg := range args {
		var want string
		switch a := arg.Interface().(type) {
		case func(*cri.ContainerEventResponse) error:
			continue
		case cri.Message:
			if sameName(goName(a), string(request.Descriptor().Name())) {
				if !proto.Equal(encode(t, a, request.Descriptor()), request.Interface()) {
					t.Errorf("%s sent %v, got %v", name, a, request)
				}
				continue
			}
			want = string(cri.Marshal(a))
		case time.Duration:
			want = "7"
		default:
			want = plain(arg)
		}
		found := false
		for _, g := range got {
			found = found || g == want
		}
		if !found {
			t.Errorf("%s: argument %q is not in the request %v", name, want, request)
		}
	}
}

// checkResult compares what the client returned with the answer: it is the answer, or its first field.
func (p *peer) checkResult(t *testing.T, name string, results []reflect.Value) {
	t.Helper()
	p.mu.Lock()
	answer := p.answers[name].ProtoReflect()
	p.mu.Unlock()
	if len(results) == 0 {
		if answer.Descriptor().Fields().Len() > 0 {
			t.Errorf("%s drops its answer", name)
		}
		return
	}
	result := results[0]
	if m, ok := result.Interface().(cri.Message); ok && sameName(goName(m), string(answer.Descriptor().Name())) {
		if !proto.Equal(encode(t, m, answer.Descriptor()), answer.Interface()) {
			t.Errorf("%s returned %v, answered %v", name, m, answer)
		}
		return
	}
	fd := answer.Descriptor().Fields().Get(0)
	if !fd.IsList() {
		if got, want := resultText(result), canonical(t, fd, answer.Get(fd)); got != want {
			t.Errorf("%s returned %q, answered %q", name, got, want)
		}
		return
	}
	list := answer.Get(fd).List()
	if result.Len() != list.Len() {
		t.Errorf("%s returned %d elements, answered %d", name, result.Len(), list.Len())
		return
	}
	for i := range list.Len() {
		m := result.Index(i).Addr().Interface().(cri.Message)
		if !proto.Equal(encode(t, m, fd.Message()), list.Get(i).Message().Interface()) {
			t.Errorf("%s element %d = %v, answered %v", name, i, m, list.Get(i))
		}
	}
}

func resultText(v reflect.Value) string {
	if m, ok := v.Interface().(cri.Message); ok {
		return string(cri.Marshal(m))
	}
	return plain(v)
}

// canonical returns a field's value in a form that plain and cri.Marshal give the same value.
func canonical(t *testing.T, fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	t.Helper()
	if fd.IsList() {
		var elements []string
		for i := range v.List().Len() {
			elements = append(elements, v.List().Get(i).String())
		}
		return strings.Join(elements, " ")
	}
	if fd.Message() == nil || fd.IsMap() {
		return v.String()
	}
	for _, m := range messages {
		if sameName(goName(m), string(fd.Message().Name())) {
			return string(cri.Marshal(decode(t, m, v.Message().Interface())))
		}
	}
	t.Fatalf("no message for field %s", fd.FullName())
	return ""
}

func plain(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		return strings.Join(v.Interface().([]string), " ")
	}
	return protoreflect.ValueOf(v.Interface()).String()
}

func TestStatusCodes(t *testing.T) {
	const message = "50% of \"päge\"\n not found\t😀"
	var code codes.Code
	_, c := start(t, func(context.Context, protoreflect.MethodDescriptor) error { return status.Error(code, message) })
	for code = codes.Canceled; code <= codes.Unauthenticated; code++ {
		_, err := c.Version(t.Context())
		e, ok := errors.AsType[*cri.Error](err)
		if !ok || uint32(e.Code) != uint32(code) || e.Message != message || !errors.Is(err, cri.Code(code)) {
			t.Errorf("code %v arrived as %#v", code, err)
		}
		if code != codes.Canceled && e.Code.Error() != code.String() {
			t.Errorf("code %v is called %v", code, e.Code)
		}
	}
	if _, err := c.ContainerStatus(t.Context(), "x", false); !errors.Is(err, cri.ErrUnauthenticated+1) {
		t.Errorf("code 17 arrived as %v", err)
	}
}

func TestDeadlineAndCancel(t *testing.T) {
	ended := make(chan error, 1)
	began := make(chan time.Duration, 1)
	_, c := start(t, func(ctx context.Context, _ protoreflect.MethodDescriptor) error {
		deadline, ok := ctx.Deadline()
		if !ok {
			deadline = time.Now()
		}
		began <- time.Until(deadline)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Version(ctx); !errors.Is(err, cri.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if left := <-began; left <= 0 || left > 200*time.Millisecond {
		t.Errorf("the server saw a deadline in %v, the client's was 200 ms", left)
	}
	<-ended

	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := c.Version(ctx); !errors.Is(err, cri.ErrCanceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the server's context ended with %v", err)
	}
}

func TestHeaders(t *testing.T) {
	var got metadata.MD
	_, c := start(t, func(ctx context.Context, _ protoreflect.MethodDescriptor) error {
		got, _ = metadata.FromIncomingContext(ctx)
		return nil
	})
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got.Get("content-type")[0] != "application/grpc" || !strings.HasPrefix(got.Get("user-agent")[0], "skerry-cri") {
		t.Errorf("headers = %v", got)
	}
}

func TestServerRestart(t *testing.T) {
	socket := socketPath(t)
	c := cri.New(cri.Options{Socket: socket})
	defer c.Close()
	if _, err := c.Version(t.Context()); !errors.Is(err, cri.ErrUnavailable) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a socket: %v", err)
	}
	for range 3 {
		p := serve(t, socket, nil)
		if _, err := c.Version(t.Context()); err != nil {
			t.Errorf("with a new server: %v", err)
		}
		p.Stop()
		if _, err := c.Version(t.Context()); !errors.Is(err, cri.ErrUnavailable) {
			t.Errorf("with the server gone: %v", err)
		}
	}
}

// TestConstants holds our enums' values to cri-api's.
func TestConstants(t *testing.T) {
	for _, c := range []struct{ ours, theirs int32 }{
		{int32(cri.SandboxNotReady), int32(v1.PodSandboxState_SANDBOX_NOTREADY)},
		{int32(cri.ContainerCreated), int32(v1.ContainerState_CONTAINER_CREATED)},
		{int32(cri.ContainerRunning), int32(v1.ContainerState_CONTAINER_RUNNING)},
		{int32(cri.ContainerExited), int32(v1.ContainerState_CONTAINER_EXITED)},
		{int32(cri.ContainerUnknown), int32(v1.ContainerState_CONTAINER_UNKNOWN)},
		{int32(cri.ProtocolUDP), int32(v1.Protocol_UDP)},
		{int32(cri.ProtocolSCTP), int32(v1.Protocol_SCTP)},
		{int32(cri.PropagationHostToContainer), int32(v1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER)},
		{int32(cri.PropagationBidirectional), int32(v1.MountPropagation_PROPAGATION_BIDIRECTIONAL)},
		{int32(cri.NamespaceContainer), int32(v1.NamespaceMode_CONTAINER)},
		{int32(cri.NamespaceNode), int32(v1.NamespaceMode_NODE)},
		{int32(cri.NamespaceTarget), int32(v1.NamespaceMode_TARGET)},
		{int32(cri.ProfileUnconfined), int32(v1.SecurityProfile_Unconfined)},
		{int32(cri.ProfileLocalhost), int32(v1.SecurityProfile_Localhost)},
		{int32(cri.SupplementalGroupsStrict), int32(v1.SupplementalGroupsPolicy_Strict)},
		{int32(cri.CgroupDriverCgroupfs), int32(v1.CgroupDriver_CGROUPFS)},
		{int32(cri.ContainerStartedEvent), int32(v1.ContainerEventType_CONTAINER_STARTED_EVENT)},
		{int32(cri.ContainerStoppedEvent), int32(v1.ContainerEventType_CONTAINER_STOPPED_EVENT)},
		{int32(cri.ContainerDeletedEvent), int32(v1.ContainerEventType_CONTAINER_DELETED_EVENT)},
	} {
		if c.ours != c.theirs {
			t.Errorf("our constant is %d, cri-api's %d: %+v", c.ours, c.theirs, c)
		}
	}
	if cri.RuntimeReady != v1.RuntimeReady || cri.NetworkReady != v1.NetworkReady {
		t.Error("names of the runtime's conditions differ")
	}
}
