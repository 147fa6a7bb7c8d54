package cri

// ContainerAttributes identifies the container of a ContainerStats.
type ContainerAttributes struct {
	ID          string
	Metadata    *ContainerMetadata
	Labels      map[string]string
	Annotations map[string]string
}

func (m *ContainerAttributes) walk(f *fields) {
	f.str(1, &m.ID)
	opt(f, 2, &m.Metadata)
	f.strMap(3, &m.Labels)
	f.strMap(4, &m.Annotations)
}

// ContainerStatsFilter selects containers; zero fields match all.
type ContainerStatsFilter struct {
	ID            string
	PodSandboxID  string
	LabelSelector map[string]string
}

func (m *ContainerStatsFilter) walk(f *fields) {
	f.str(1, &m.ID)
	f.str(2, &m.PodSandboxID)
	f.strMap(3, &m.LabelSelector)
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

func (m *ContainerStats) walk(f *fields) {
	opt(f, 1, &m.Attributes)
	opt(f, 2, &m.CPU)
	opt(f, 3, &m.Memory)
	opt(f, 4, &m.WritableLayer)
	opt(f, 5, &m.Swap)
	opt(f, 6, &m.IO)
}

// CPUUsage is CPU time in nanoseconds, and its current rate in billionths of a core.
type CPUUsage struct {
	Timestamp            int64
	UsageCoreNanoSeconds *uint64
	UsageNanoCores       *uint64
	PSI                  *PSIStats
}

func (m *CPUUsage) walk(f *fields) {
	num(f, 1, &m.Timestamp)
	wrapped(f, 2, &m.UsageCoreNanoSeconds)
	wrapped(f, 3, &m.UsageNanoCores)
	opt(f, 4, &m.PSI)
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

func (m *MemoryUsage) walk(f *fields) {
	num(f, 1, &m.Timestamp)
	wrapped(f, 2, &m.WorkingSetBytes)
	wrapped(f, 3, &m.AvailableBytes)
	wrapped(f, 4, &m.UsageBytes)
	wrapped(f, 5, &m.RSSBytes)
	wrapped(f, 6, &m.PageFaults)
	wrapped(f, 7, &m.MajorPageFaults)
	opt(f, 8, &m.PSI)
}

// SwapUsage is swap in bytes.
type SwapUsage struct {
	Timestamp          int64
	SwapAvailableBytes *uint64
	SwapUsageBytes     *uint64
}

func (m *SwapUsage) walk(f *fields) {
	num(f, 1, &m.Timestamp)
	wrapped(f, 2, &m.SwapAvailableBytes)
	wrapped(f, 3, &m.SwapUsageBytes)
}

// IOUsage is the pressure on input and output.
type IOUsage struct {
	Timestamp int64
	PSI       *PSIStats
}

func (m *IOUsage) walk(f *fields) {
	num(f, 1, &m.Timestamp)
	opt(f, 2, &m.PSI)
}

// PSIStats is the kernel's pressure stall information.
type PSIStats struct{ Full, Some *PSIData }

func (m *PSIStats) walk(f *fields) {
	opt(f, 1, &m.Full)
	opt(f, 2, &m.Some)
}

// PSIData is stall time: Total in nanoseconds, averages over 10, 60 and 300 s in percent.
type PSIData struct {
	Total                uint64
	Avg10, Avg60, Avg300 float64
}

func (m *PSIData) walk(f *fields) {
	num(f, 1, &m.Total)
	f.double(2, &m.Avg10)
	f.double(3, &m.Avg60)
	f.double(4, &m.Avg300)
}
