package fleet

import (
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/wire/canon"
)

// The status documents have the fields and the size of those that firmware/pods and firmware/devices make of one small node, one
// pod with one container and one device with one property.

// reported is a moment that stays the same for the life of the process: a time that moves would make every report a change.
const reported = "2026-01-01T00:00:00Z"

func encode(v map[string]any) []byte {
	b, err := canon.FromValue(v)
	if err != nil {
		panic(err) // only of values that canon cannot encode
	}
	return b
}

func condition(kind, status, reason, message string) map[string]any {
	return map[string]any{
		"type": kind, "status": status, "reason": reason, "message": message,
		"lastTransitionTime": reported, "lastHeartbeatTime": reported,
	}
}

func nodeReport() []byte {
	resources := map[string]any{"cpu": "2", "memory": "524288Ki", "ephemeral-storage": "8388608Ki", "pods": "110"}
	return encode(map[string]any{
		"labels": map[string]any{
			"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm", "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "arm",
		},
		"status": map[string]any{
			"capacity": resources, "allocatable": resources,
			"addresses": []any{map[string]any{"type": "InternalIP", "address": "127.0.0.1"}},
			"conditions": []any{
				condition("MemoryPressure", "False", "EnoughMemory", "412 MiB of memory are available"),
				condition("DiskPressure", "False", "EnoughDisk", "6.1 GiB of disk are available"),
				condition("PIDPressure", "False", "EnoughPIDs", "process ids are available"),
				condition("Ready", "True", "AgentReady", "the agent and the container runtime are ready"),
			},
			"nodeInfo": map[string]any{
				"architecture": "arm", "operatingSystem": "linux", "kernelVersion": "6.1.0-armmp", "osImage": "Skerry gateway",
				"kubeletVersion": "v1.37.0-skerry", "containerRuntimeVersion": "containerd://1.6.20", "machineID": "fleet",
				"bootID": "fleet", "systemUUID": "fleet", "kubeProxyVersion": "",
			},
		},
	})
}

// podReport is the status of a running pod, or says that a terminating one is gone.
func podReport(ended bool) []byte {
	if ended {
		return encode(map[string]any{"deleted": true})
	}
	pod := func(kind string) map[string]any {
		return map[string]any{"type": kind, "status": "True", "lastTransitionTime": reported}
	}
	return encode(map[string]any{"status": map[string]any{
		"phase": "Running", "startTime": reported, "hostIP": "127.0.0.1", "podIP": "10.88.0.2",
		"hostIPs": []any{map[string]any{"ip": "127.0.0.1"}}, "podIPs": []any{map[string]any{"ip": "10.88.0.2"}},
		"conditions": []any{pod("PodReadyToStartContainers"), pod("Initialized"), pod("Ready"), pod("ContainersReady"), pod("PodScheduled")},
		"containerStatuses": []any{map[string]any{
			"name": "main", "image": "registry.invalid/fleet:1", "imageID": "sha256:0", "ready": true, "started": true, "restartCount": 0,
			"containerID": "containerd://0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
			"state":       map[string]any{"running": map[string]any{"startedAt": reported}},
		}},
	}})
}

// deviceReport is the nth report of a device.
func deviceReport(n int64) []byte {
	now := reported
	stamp := "1767225600000"
	if n > 0 {
		t := time.Now()
		now, stamp = t.UTC().Format(time.RFC3339), strconv.FormatInt(t.UnixMilli(), 10)
	}
	state := func(kind, reason, message string) map[string]any {
		return map[string]any{"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": reported, "observedGeneration": 1}
	}
	return encode(map[string]any{
		"observedGeneration": 1,
		"conditions":         []any{state("Ready", "Polling", "the device answers"), state("Valid", "Valid", "the device fits its model and its driver")},
		"deviceStatus": map[string]any{
			"state": "online", "lastOnlineTime": now,
			"twins": []any{map[string]any{
				"propertyName": property,
				"reported":     map[string]any{"value": strconv.FormatInt(n, 10), "metadata": map[string]any{"timestamp": stamp, "type": "INT", "quality": "good"}},
			}},
		},
	})
}

func eventBody(node, reason, message string) []byte {
	return encode(map[string]any{
		"ref":  map[string]any{"kind": "Node", "name": node, "uid": "", "apiVersion": "v1", "namespace": "", "fieldPath": ""},
		"type": "Normal", "reason": reason, "message": message, "time": time.Now().UTC().Format(time.RFC3339Nano), "count": 1, "component": "fleet",
	})
}
