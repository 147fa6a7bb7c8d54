package cri

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry/skerry/firmware/grpcwire"
)

func ptr[T any](v T) *T { return &v }

// sampleConfig sets fields of every kind of the encoding.
func sampleConfig() *ContainerConfig {
	return &ContainerConfig{
		Metadata: &ContainerMetadata{Name: "app", Attempt: 3},
		Command:  []string{"/sample", "", "ü"},
		Envs:     []KeyValue{{"A", "1"}, {}, {"B", strings.Repeat("long ", 5000)}},
		Labels:   map[string]string{"x": "1", "": "2", "z": ""},
		TTY:      true,
		Linux: &LinuxContainerConfig{
			Resources: &LinuxContainerResources{MemoryLimitInBytes: 1 << 40, OOMScoreAdj: -997},
			SecurityContext: &LinuxContainerSecurityContext{
				RunAsUser: ptr(int64(0)), RunAsGroup: ptr(int64(-1)), SupplementalGroups: []int64{0, -1, math.MaxInt64},
			},
		},
	}
}

func TestRoundTrip(t *testing.T) {
	want := sampleConfig()
	data := Marshal(want)
	var got ContainerConfig
	if err := Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(data, Marshal(sampleConfig())) {
		t.Error("equal messages have different encodings")
	}
}

// TestLengthPrefix frames nested messages of lengths at the borders of one, two and three length bytes.
func TestLengthPrefix(t *testing.T) {
	for _, n := range []int{0, 1, 100, 121, 122, 123, 124, 125, 126, 127, 128, 129, 16370, 16378, 16383, 16384, 16385, 2097151} {
		want := RunPodSandboxRequest{Config: &PodSandboxConfig{Metadata: &PodSandboxMetadata{Name: strings.Repeat("n", n)}, Hostname: "after"}}
		var got RunPodSandboxRequest
		if err := Unmarshal(Marshal(&want), &got); err != nil || !reflect.DeepEqual(want, got) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestGolden decodes bytes written by hand after protobuf's specification.
func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want ContainerStatus
	}{
		"negative int32 in ten bytes":      {[]byte{7 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, ContainerStatus{ExitCode: -1}},
		"last value of a field wins":       {[]byte{7 << 3, 1, 7 << 3, 2}, ContainerStatus{ExitCode: 2}},
		"sub-messages merge":               {[]byte{2<<3 | 2, 3, 1<<3 | 2, 1, 'a', 2<<3 | 2, 2, 2 << 3, 5}, ContainerStatus{Metadata: &ContainerMetadata{"a", 5}}},
		"other wire type is skipped":       {[]byte{7<<3 | 2, 1, 9, 1 << 3, 7}, ContainerStatus{}},
		"unknown fields are skipped":       {[]byte{0xf8, 7, 1, 0xf9, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0xfa, 7, 2, 1, 2, 0xfd, 7, 1, 2, 3, 4, 7 << 3, 9}, ContainerStatus{ExitCode: 9}},
		"map entry without key and value":  {[]byte{12<<3 | 2, 0}, ContainerStatus{Labels: map[string]string{"": ""}}},
		"invalid UTF-8 is replaced":        {[]byte{1<<3 | 2, 2, 'a', 0xff}, ContainerStatus{ID: "a\uFFFD"}},
		"empty sub-message is not absent":  {[]byte{8<<3 | 2, 0}, ContainerStatus{Image: &ImageSpec{}}},
		"unpacked numbers, packed numbers": {[]byte{0x92, 1, 8, 1<<3 | 2, 6, 3 << 3, 7, 3<<3 | 2, 2, 8, 9}, ContainerStatus{User: &ContainerUser{&LinuxContainerUser{SupplementalGroups: []int64{7, 8, 9}}}}},
	} {
		var got ContainerStatus
		if err := Unmarshal(c.data, &got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestMalformed(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"length beyond the end":       {[]byte{1<<3 | 2, 5, 'a'}, grpcwire.ErrTruncated},
		"length of 2^63":              {[]byte{1<<3 | 2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, grpcwire.ErrTruncated},
		"length beyond the parent":    {[]byte{2<<3 | 2, 2, 1<<3 | 2, 9, 'a', 'a', 'a'}, grpcwire.ErrTruncated},
		"tag without value":           {[]byte{7 << 3}, grpcwire.ErrTruncated},
		"unfinished varint":           {[]byte{7 << 3, 0x80}, grpcwire.ErrTruncated},
		"varint of 65 bits":           {[]byte{7 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}, grpcwire.ErrVarint},
		"varint of eleven bytes":      {[]byte{7 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, grpcwire.ErrVarint},
		"field 0":                     {[]byte{0, 0}, grpcwire.ErrTag},
		"group":                       {[]byte{7<<3 | 3, 7<<3 | 4}, grpcwire.ErrTag},
		"wire type 7":                 {[]byte{7<<3 | 7}, grpcwire.ErrTag},
		"truncated fixed64":           {[]byte{0xf9, 7, 1}, grpcwire.ErrTruncated},
		"malformed map entry":         {[]byte{12<<3 | 2, 2, 1<<3 | 2, 1}, grpcwire.ErrTruncated},
		"malformed wrapper in stats":  {[]byte{12<<3 | 2, 1, 0}, grpcwire.ErrTag},
		"elements that cost a lot":    {bytes.Repeat([]byte{14<<3 | 2, 0}, 100_000), grpcwire.ErrExpansion},
		"map entries that cost a lot": {bytes.Repeat([]byte{12<<3 | 2, 0}, 100_000), grpcwire.ErrExpansion},
	} {
		var m ContainerStatus
		if err := Unmarshal(c.data, &m); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestMemoryOfHostileInput bounds what the densest input takes.
func TestMemoryOfHostileInput(t *testing.T) {
	data := bytes.Repeat([]byte{1<<3 | 2, 0}, 1<<19) // 2^19 empty containers in 1 MiB
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			var m ListContainersResponse
			if err := Unmarshal(data, &m); !errors.Is(err, grpcwire.ErrExpansion) {
				b.Fatal(err)
			}
		}
	})
	if limit := int64(4 * grpcwire.DecodedFactor * len(data)); result.AllocedBytesPerOp() > limit {
		t.Errorf("decoding 1 MiB took %d bytes of memory, limit %d", result.AllocedBytesPerOp(), limit)
	}
}

// FuzzUnmarshal decodes anything as the messages with the most kinds of fields: no panic, and what was decoded encodes to
// something that decodes to the same.
func FuzzUnmarshal(f *testing.F) {
	small := sampleConfig()
	small.Envs = small.Envs[:2]
	f.Add(Marshal(small))
	f.Add(Marshal(&ListContainerStatsResponse{Stats: []ContainerStats{{CPU: &CPUUsage{UsageNanoCores: ptr(uint64(5)), PSI: &PSIStats{Full: &PSIData{Avg10: 1.5}}}}}}))
	f.Add([]byte{2<<3 | 2, 3, 1<<3 | 2, 1, 'a', 2<<3 | 2, 2, 2 << 3, 5})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range []Message{new(ContainerConfig), new(PodSandboxStatusResponse), new(ListContainerStatsResponse), new(ListImagesResponse)} {
			if Unmarshal(data, m) != nil {
				continue
			}
			again := reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message)
			encoded := Marshal(m)
			// packed and long forms differ in what they may cost
			if err := grpcwire.UnmarshalWithin(encoded, again, math.MaxInt); err != nil {
				t.Fatalf("%T: own encoding is refused: %v", m, err)
			}
			if !bytes.Equal(Marshal(again), encoded) {
				t.Fatalf("%T: encoding is not stable", m)
			}
		}
	})
}

func BenchmarkListContainers(b *testing.B) {
	list := ListContainersResponse{Containers: make([]Container, 40)}
	for i := range list.Containers {
		list.Containers[i] = Container{
			ID: strings.Repeat("a", 64), PodSandboxID: strings.Repeat("b", 64), Metadata: &ContainerMetadata{Name: "app"},
			Image: &ImageSpec{Image: "registry/app:1"}, State: ContainerRunning, CreatedAt: 1 << 60,
			Labels: map[string]string{"io.kubernetes.pod.name": "web-1", "io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.uid": strings.Repeat("c", 36)},
		}
	}
	data := Marshal(&list)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var m ListContainersResponse
		if err := Unmarshal(data, &m); err != nil {
			b.Fatal(err)
		}
	}
}
