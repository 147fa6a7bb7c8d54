package cri

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/skerry/skerry/firmware/cri"
)

// messages is every message of firmware/cri.
var messages = []cri.Message{
	new(cri.AttachRequest), new(cri.AttachResponse), new(cri.AuthConfig), new(cri.CDIDevice), new(cri.CPUUsage), new(cri.Capability),
	new(cri.Container), new(cri.ContainerAttributes), new(cri.ContainerConfig), new(cri.ContainerEventResponse), new(cri.ContainerFilter),
	new(cri.ContainerMetadata), new(cri.ContainerResources), new(cri.ContainerStats), new(cri.ContainerStatsFilter),
	new(cri.ContainerStatsRequest), new(cri.ContainerStatsResponse), new(cri.ContainerStatus), new(cri.ContainerStatusRequest),
	new(cri.ContainerStatusResponse), new(cri.ContainerUser), new(cri.CreateContainerRequest), new(cri.CreateContainerResponse),
	new(cri.DNSConfig), new(cri.Device), new(cri.ExecRequest), new(cri.ExecResponse), new(cri.ExecSyncRequest), new(cri.ExecSyncResponse),
	new(cri.FilesystemIdentifier), new(cri.FilesystemUsage), new(cri.GetEventsRequest), new(cri.HugepageLimit), new(cri.IDMapping),
	new(cri.IOUsage), new(cri.Image), new(cri.ImageFilter), new(cri.ImageFsInfoRequest), new(cri.ImageFsInfoResponse), new(cri.ImageSpec),
	new(cri.ImageStatusRequest), new(cri.ImageStatusResponse), new(cri.KeyValue), new(cri.LinuxContainerConfig),
	new(cri.LinuxContainerResources), new(cri.LinuxContainerSecurityContext), new(cri.LinuxContainerUser), new(cri.LinuxPodSandboxConfig),
	new(cri.LinuxPodSandboxStatus), new(cri.LinuxRuntimeConfiguration), new(cri.LinuxSandboxSecurityContext),
	new(cri.ListContainerStatsRequest), new(cri.ListContainerStatsResponse), new(cri.ListContainersRequest), new(cri.ListContainersResponse),
	new(cri.ListImagesRequest), new(cri.ListImagesResponse), new(cri.ListPodSandboxRequest), new(cri.ListPodSandboxResponse),
	new(cri.MemoryUsage), new(cri.Mount), new(cri.Namespace), new(cri.NamespaceOption), new(cri.PSIData), new(cri.PSIStats), new(cri.PodIP),
	new(cri.PodSandbox), new(cri.PodSandboxConfig), new(cri.PodSandboxFilter), new(cri.PodSandboxMetadata), new(cri.PodSandboxNetworkStatus),
	new(cri.PodSandboxStatus), new(cri.PodSandboxStatusRequest), new(cri.PodSandboxStatusResponse), new(cri.PortForwardRequest),
	new(cri.PortForwardResponse), new(cri.PortMapping), new(cri.PullImageRequest), new(cri.PullImageResponse), new(cri.RemoveContainerRequest),
	new(cri.RemoveContainerResponse), new(cri.RemoveImageRequest), new(cri.RemoveImageResponse), new(cri.RemovePodSandboxRequest),
	new(cri.RemovePodSandboxResponse), new(cri.ReopenContainerLogRequest), new(cri.ReopenContainerLogResponse), new(cri.RunPodSandboxRequest),
	new(cri.RunPodSandboxResponse), new(cri.RuntimeCondition), new(cri.RuntimeConfigRequest), new(cri.RuntimeConfigResponse),
	new(cri.RuntimeFeatures), new(cri.RuntimeHandler), new(cri.RuntimeHandlerFeatures), new(cri.RuntimeStatus), new(cri.SELinuxOption),
	new(cri.SecurityProfile), new(cri.StartContainerRequest), new(cri.StartContainerResponse), new(cri.StatusRequest), new(cri.StatusResponse),
	new(cri.StopContainerRequest), new(cri.StopContainerResponse), new(cri.StopPodSandboxRequest), new(cri.StopPodSandboxResponse),
	new(cri.SwapUsage), new(cri.UpdateContainerResourcesRequest), new(cri.UpdateContainerResourcesResponse), new(cri.UserNamespace),
	new(cri.VersionRequest), new(cri.VersionResponse),
}

// leftOut are the fields of cri-api that ours has not, and why.
var leftOut = map[protoreflect.FullName]string{
	"runtime.v1.PodSandboxConfig.windows":                "Linux only",
	"runtime.v1.ContainerConfig.windows":                 "Linux only",
	"runtime.v1.ContainerResources.windows":              "Linux only",
	"runtime.v1.UpdateContainerResourcesRequest.windows": "Linux only",
}

func TestTableHoldsEveryMessage(t *testing.T) {
	inTable := map[string]bool{}
	for _, m := range messages {
		inTable[goName(m)] = true
	}
	packages, err := parser.ParseDir(token.NewFileSet(), "../../../firmware/cri", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range packages["cri"].Files {
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "Walk" {
				continue
			}
			found++
			if name := f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name; !inTable[name] {
				t.Errorf("message %s of firmware/cri is not in the table of this test", name)
			}
		}
	}
	if found != len(messages) {
		t.Errorf("firmware/cri has %d messages, the table %d", found, len(messages))
	}
}

// TestEveryField sets one field after the other in cri-api's message and looks for it in ours.
func TestEveryField(t *testing.T) {
	for _, m := range messages {
		desc := descriptor(t, m)
		matched := map[string]bool{}
		for i := range desc.Fields().Len() {
			fd := desc.Fields().Get(i)
			if leftOut[fd.FullName()] != "" {
				continue
			}
			theirs := dynamicpb.NewMessage(desc)
			(&filler{extreme: true}).field(theirs, fd)
			ours := decode(t, m, theirs)
			set := nonZero(ours)
			if len(set) != 1 || !sameName(set[0], string(fd.Name())) {
				t.Errorf("%s: field %s (%d) sets %v in ours", desc.Name(), fd.Name(), fd.Number(), set)
				continue
			}
			matched[set[0]] = true
			if again := encode(t, ours, desc); !proto.Equal(theirs, again) {
				t.Errorf("%s.%s came back as %v, sent %v", desc.Name(), fd.Name(), again, theirs)
			}
		}
		for _, f := range reflect.VisibleFields(reflect.TypeOf(m).Elem()) {
			if !matched[f.Name] {
				t.Errorf("%s: our field %s is no field of cri-api's", desc.Name(), f.Name)
			}
		}
	}
}

// TestTheirsThroughOurs fills cri-api's message in every field and depth, and passes it through ours.
func TestTheirsThroughOurs(t *testing.T) {
	for _, m := range messages {
		desc := descriptor(t, m)
		for _, extreme := range []bool{false, true} {
			theirs := dynamicpb.NewMessage(desc)
			(&filler{extreme: extreme}).message(theirs)
			if again := encode(t, decode(t, m, theirs), desc); !proto.Equal(theirs, again) {
				t.Errorf("%s came back as\n%v\nsent\n%v", desc.Name(), again, theirs)
			}
		}
	}
}

// TestOursThroughTheirs fills our message in every field and depth, and passes it through cri-api's.
func TestOursThroughTheirs(t *testing.T) {
	for _, m := range messages {
		desc := descriptor(t, m)
		ours := fresh(m)
		n := 0
		fill(t, reflect.ValueOf(ours).Elem(), &n)
		theirs := encode(t, ours, desc)
		if again := decode(t, m, theirs); !reflect.DeepEqual(ours, again) {
			t.Errorf("%s came back as\n%+v\nsent\n%+v", desc.Name(), again, ours)
		}
	}
}

// TestUnknownFields passes cri-api's largest messages through ours that do not know them.
func TestUnknownFields(t *testing.T) {
	windows := dynamicpb.NewMessage(v1.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto.Messages().ByName("WindowsPodSandboxConfig"))
	(&filler{}).message(windows)
	full := &v1.PodSandboxConfig{Hostname: "h", Windows: &v1.WindowsPodSandboxConfig{}}
	data, err := proto.Marshal(windows)
	if err == nil {
		err = proto.Unmarshal(data, full.Windows)
	}
	if err != nil {
		t.Fatal(err)
	}
	if ours := decode(t, new(cri.PodSandboxConfig), full.ProtoReflect().Interface()).(*cri.PodSandboxConfig); !reflect.DeepEqual(ours, &cri.PodSandboxConfig{Hostname: "h"}) {
		t.Errorf("with unknown fields: %+v", ours)
	}
}

func goName(m cri.Message) string { return reflect.TypeOf(m).Elem().Name() }

func fresh(m cri.Message) cri.Message {
	return reflect.New(reflect.TypeOf(m).Elem()).Interface().(cri.Message)
}

// descriptor returns the descriptor of cri-api's message with the name of ours, whatever the case of its letters.
func descriptor(t *testing.T, m cri.Message) protoreflect.MessageDescriptor {
	t.Helper()
	all := v1.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto.Messages()
	for i := range all.Len() {
		if sameName(string(all.Get(i).Name()), goName(m)) {
			return all.Get(i)
		}
	}
	t.Fatalf("cri-api has no message %s", goName(m))
	return nil
}

func sameName(a, b string) bool {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	return plain(a) == plain(b)
}

func decode(t *testing.T, like cri.Message, theirs proto.Message) cri.Message {
	t.Helper()
	data, err := proto.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	ours := fresh(like)
	if err := cri.Unmarshal(data, ours); err != nil {
		t.Fatal(err)
	}
	return ours
}

// encode returns ours as cri-api's message, which must know every field of it.
func encode(t *testing.T, ours cri.Message, desc protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	theirs, known := dynamicpb.NewMessage(desc), dynamicpb.NewMessage(desc)
	data := cri.Marshal(ours)
	if err := proto.Unmarshal(data, theirs); err != nil {
		t.Fatalf("cri-api cannot decode our %s: %v", desc.Name(), err)
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, known); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(theirs, known) {
		t.Errorf("cri-api does not know all fields of our %s: %v", desc.Name(), theirs)
	}
	return theirs
}

func nonZero(m cri.Message) []string {
	var names []string
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			names = append(names, v.Type().Field(i).Name)
		}
	}
	return names
}
