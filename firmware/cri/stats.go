package cri

import "github.com/skerry/skerry/firmware/grpcwire"

// ContainerAttributes identifies the container of a ContainerStats.
type ContainerAttributes struct {
	ID          string
	Metadata    *ContainerMetadata
	Labels      map[string]string
	Annotations map[string]string
}

func (m *ContainerAttributes) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ID)
	grpcwire.Opt(f, 2, &m.Metadata)
	f.StrMap(3, &m.Labels)
	f.StrMap(4, &m.Annotations)
}

// ContainerStatsFilter selects containers; zero fields match all.
type ContainerStatsFilter struct {
	ID            string
	PodSandboxID  string
	LabelSelector map[string]string
}

func (m *ContainerStatsFilter) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ID)
	f.Str(2, &m.PodSandboxID)
	f.StrMap(3, &m.LabelSelector)
}

// ContainerStats is what a container uses. Timestamps are in nanoseconds since 1970.
type ContainerStats struct {
	Attributes    *ContainerAttributes
	CPU           *CPUUsage
	Memory        *MemoryUsage
	WritableLayer *FilesystemUsage
	Swap          *SwapUsage
	IO            *IOUsage
}

func (m *ContainerStats) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Attributes)
	grpcwire.Opt(f, 2, &m.CPU)
	grpcwire.Opt(f, 3, &m.Memory)
	grpcwire.Opt(f, 4, &m.WritableLayer)
	grpcwire.Opt(f, 5, &m.Swap)
	grpcwire.Opt(f, 6, &m.IO)
}

// CPUUsage is CPU time in nanoseconds, and its current rate in billionths of a core.
type CPUUsage struct {
	Timestamp            int64
	UsageCoreNanoSeconds *uint64
	UsageNanoCores       *uint64
	PSI                  *PSIStats
}

func (m *CPUUsage) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.Timestamp)
	grpcwire.Wrapped(f, 2, &m.UsageCoreNanoSeconds)
	grpcwire.Wrapped(f, 3, &m.UsageNanoCores)
	grpcwire.Opt(f, 4, &m.PSI)
}

// MemoryUsage is memory in bytes, and counts of page faults.
type MemoryUsage struct {
	Timestamp       int64
	WorkingSetBytes *uint64
	AvailableBytes  *uint64
	UsageBytes      *uint64
	RSSBytes        *uint64
	PageFaults      *uint64
	MajorPageFaults *uint64
	PSI             *PSIStats
}

func (m *MemoryUsage) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.Timestamp)
	grpcwire.Wrapped(f, 2, &m.WorkingSetBytes)
	grpcwire.Wrapped(f, 3, &m.AvailableBytes)
	grpcwire.Wrapped(f, 4, &m.UsageBytes)
	grpcwire.Wrapped(f, 5, &m.RSSBytes)
	grpcwire.Wrapped(f, 6, &m.PageFaults)
	grpcwire.Wrapped(f, 7, &m.MajorPageFaults)
	grpcwire.Opt(f, 8, &m.PSI)
}

// SwapUsage is swap in bytes.
type SwapUsage struct {
	Timestamp          int64
	SwapAvailableBytes *uint64
	SwapUsageBytes     *uint64
}

func (m *SwapUsage) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.Timestamp)
	grpcwire.Wrapped(f, 2, &m.SwapAvailableBytes)
	grpcwire.Wrapped(f, 3, &m.SwapUsageBytes)
}

// IOUsage is the pressure on input and output.
type IOUsage struct {
	Timestamp int64
	PSI       *PSIStats
}

func (m *IOUsage) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.Timestamp)
	grpcwire.Opt(f, 2, &m.PSI)
}

// PSIStats is the kernel's pressure stall information.
type PSIStats struct{ Full, Some *PSIData }

func (m *PSIStats) Walk(f *grpcwire.Fields) {
	grpcwire.Opt(f, 1, &m.Full)
	grpcwire.Opt(f, 2, &m.Some)
}

// PSIData is stall time: Total in nanoseconds, averages over 10, 60 and 300 s in percent.
type PSIData struct {
	Total                uint64
	Avg10, Avg60, Avg300 float64
}

func (m *PSIData) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.Total)
	f.Double(2, &m.Avg10)
	f.Double(3, &m.Avg60)
	f.Double(4, &m.Avg300)
}
