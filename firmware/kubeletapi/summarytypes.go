package kubeletapi

import "time"

// The document of /stats/summary (k8s.io/kubelet pkg/apis/stats/v1alpha1), as far as an agent has the figures: docs/kubelet.md lists what is left
// out.
type (
	summary struct {
		Node nodeStats  `json:"node"`
		Pods []podStats `json:"pods"`
	}
	nodeStats struct {
		NodeName         string           `json:"nodeName"`
		SystemContainers []containerStats `json:"systemContainers,omitempty"`
		StartTime        *time.Time       `json:"startTime,omitempty"`
		CPU              *cpuStats        `json:"cpu,omitempty"`
		Memory           *memoryStats     `json:"memory,omitempty"`
		IO               *ioStats         `json:"io,omitempty"`
		Network          *networkStats    `json:"network,omitempty"`
		Fs               *fsStats         `json:"fs,omitempty"`
		Runtime          *runtimeStats    `json:"runtime,omitempty"`
		Rlimit           *rlimitStats     `json:"rlimit,omitempty"`
		Swap             *swapStats       `json:"swap,omitempty"`
	}
	runtimeStats struct {
		ImageFs     *fsStats `json:"imageFs,omitempty"`
		ContainerFs *fsStats `json:"containerFs,omitempty"`
	}
	podStats struct {
		PodRef     podRef           `json:"podRef"`
		StartTime  *time.Time       `json:"startTime,omitempty"`
		Containers []containerStats `json:"containers"`
		CPU        *cpuStats        `json:"cpu,omitempty"`
		Memory     *memoryStats     `json:"memory,omitempty"`
		IO         *ioStats         `json:"io,omitempty"`
		Network    *networkStats    `json:"network,omitempty"`
		Volumes    []volumeStats    `json:"volume,omitempty"`
		Ephemeral  *fsStats         `json:"ephemeral-storage,omitempty"`
		Processes  *processStats    `json:"process_stats,omitempty"`
		Swap       *swapStats       `json:"swap,omitempty"`
	}
	podRef struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	}
	containerStats struct {
		Name      string       `json:"name"`
		StartTime *time.Time   `json:"startTime,omitempty"`
		CPU       *cpuStats    `json:"cpu,omitempty"`
		Memory    *memoryStats `json:"memory,omitempty"`
		IO        *ioStats     `json:"io,omitempty"`
		Rootfs    *fsStats     `json:"rootfs,omitempty"`
		Logs      *fsStats     `json:"logs,omitempty"`
		Swap      *swapStats   `json:"swap,omitempty"`
	}
	volumeStats struct {
		fsStats
		Name  string  `json:"name"`
		PVC   *pvcRef `json:"pvcRef,omitempty"`
		apart bool    // not on the node's disk, but in memory, or a claim's
	}
	pvcRef struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	}
	cpuStats struct {
		Time                 time.Time `json:"time"`
		UsageNanoCores       *uint64   `json:"usageNanoCores,omitempty"`
		UsageCoreNanoSeconds *uint64   `json:"usageCoreNanoSeconds,omitempty"`
		PSI                  *psiStats `json:"psi,omitempty"`
	}
	memoryStats struct {
		Time            time.Time `json:"time"`
		AvailableBytes  *uint64   `json:"availableBytes,omitempty"`
		UsageBytes      *uint64   `json:"usageBytes,omitempty"`
		WorkingSetBytes *uint64   `json:"workingSetBytes,omitempty"`
		RSSBytes        *uint64   `json:"rssBytes,omitempty"`
		PageFaults      *uint64   `json:"pageFaults,omitempty"`
		MajorPageFaults *uint64   `json:"majorPageFaults,omitempty"`
		PSI             *psiStats `json:"psi,omitempty"`
	}
	ioStats struct {
		Time time.Time `json:"time"`
		PSI  *psiStats `json:"psi,omitempty"`
	}
	swapStats struct {
		Time               time.Time `json:"time"`
		SwapAvailableBytes *uint64   `json:"swapAvailableBytes,omitempty"`
		SwapUsageBytes     *uint64   `json:"swapUsageBytes,omitempty"`
	}
	processStats struct {
		Count *uint64 `json:"process_count,omitempty"`
	}
	fsStats struct {
		Time           time.Time `json:"time"`
		AvailableBytes *uint64   `json:"availableBytes,omitempty"`
		CapacityBytes  *uint64   `json:"capacityBytes,omitempty"`
		UsedBytes      *uint64   `json:"usedBytes,omitempty"`
		InodesFree     *uint64   `json:"inodesFree,omitempty"`
		Inodes         *uint64   `json:"inodes,omitempty"`
		InodesUsed     *uint64   `json:"inodesUsed,omitempty"`
	}
	networkStats struct {
		Time time.Time `json:"time"`
		interfaceStats
		Interfaces []interfaceStats `json:"interfaces,omitempty"`
	}
	interfaceStats struct {
		Name     string  `json:"name"`
		RxBytes  *uint64 `json:"rxBytes,omitempty"`
		RxErrors *uint64 `json:"rxErrors,omitempty"`
		TxBytes  *uint64 `json:"txBytes,omitempty"`
		TxErrors *uint64 `json:"txErrors,omitempty"`
	}
	rlimitStats struct {
		Time    time.Time `json:"time"`
		MaxPID  *int64    `json:"maxpid,omitempty"`
		CurProc *int64    `json:"curproc,omitempty"`
	}
)
