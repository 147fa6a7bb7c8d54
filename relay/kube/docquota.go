package kube

import (
	"fmt"

	"github.com/skerry/skerry/firmware/wire"
)

// What one status document may hold. The API server would take far more, from every gateway, as often as it changes; and all that
// watch it, the scheduler and the other relays, would receive it. A kubelet reports 50 images and some ten conditions.
const (
	maxNodeDocument = 128 << 10
	maxPodDocument  = 256 << 10
	maxLabels       = 100 // and as many annotations
	maxLabelBytes   = 16 << 10
	maxConditions   = 100
	maxImages       = 100
	maxAddresses    = 64
	maxContainers   = 500 // statuses, of each list
)

// oversizedError is a status document that is not written because of what oversized says.
type oversizedError struct{ why string }

// Error implements error.
func (e oversizedError) Error() string { return e.why }

// oversized says why a status document is more than the API should be given, "" if it is not. Its size has been checked against
// SinkOptions.MaxReportSize before; a device may have thousands of points, and use all of that.
func oversized(kind wire.Kind, size int, doc map[string]any) string {
	limit := map[wire.Kind]int{wire.KindNode: maxNodeDocument, wire.KindPod: maxPodDocument}[kind]
	if limit > 0 && size > limit {
		return fmt.Sprintf("the report has %d bytes, the limit for %s is %d", size, kind, limit)
	}
	for _, name := range []string{"labels", "annotations"} {
		m := child(doc, name)
		if len(m) > maxLabels {
			return fmt.Sprintf("it sets %d %s, the limit is %d", len(m), name, maxLabels)
		}
		bytes := 0
		for k, v := range m {
			s, _ := v.(string)
			bytes += len(k) + len(s)
		}
		if bytes > maxLabelBytes {
			return fmt.Sprintf("its %s have %d bytes, the limit is %d", name, bytes, maxLabelBytes)
		}
	}
	if why := longList(doc, "conditions", maxConditions); why != "" {
		return why
	}
	status := child(doc, "status")
	for name, most := range map[string]int{
		"conditions": maxConditions, "images": maxImages, "addresses": maxAddresses, "volumesInUse": maxContainers, "volumesAttached": maxContainers,
		"containerStatuses": maxContainers, "initContainerStatuses": maxContainers, "ephemeralContainerStatuses": maxContainers,
		"podIPs": maxAddresses, "hostIPs": maxAddresses,
	} {
		if why := longList(status, name, most); why != "" {
			return why
		}
	}
	for _, name := range []string{"capacity", "allocatable"} {
		if n := len(child(status, name)); n > maxLabels {
			return fmt.Sprintf("it has %d resources in %s, the limit is %d", n, name, maxLabels)
		}
	}
	return ""
}

func longList(m map[string]any, name string, most int) string {
	if list, _ := m[name].([]any); len(list) > most {
		return fmt.Sprintf("it has %d %s, the limit is %d", len(list), name, most)
	}
	return ""
}
