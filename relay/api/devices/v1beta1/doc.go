// Package v1beta1 holds the Go types of the device API, devices.kubeedge.io/v1beta1: DeviceModel (what a kind of device
// offers), Device (one device, on one node) and DeviceStatus (its values). The API is KubeEdge's; manifests written for
// it apply unchanged. What we add is validation of what one object alone can show, and conditions in Device.status.
//
// Usage: import the types, register them with AddToScheme, and generate again after a change with `make generate`
// (deepcopy code in this package, manifests in relay/api/crds).
//
// Three rules hold for every field here:
//
//   - JSON names and shapes are KubeEdge's. The contract test in hil-tests/contract/kubeedge fills KubeEdge's own types by
//     reflection and requires each field to survive a round trip through ours.
//   - Validation is never stricter than what worked with KubeEdge, unless what it refuses could not have worked.
//     What needs a second object or the meaning of configData is judged at the edge and said in a condition.
//   - A value that may be absent is a pointer: a property without desired is not a property with desired "".
//
// DeviceStatus has no status subresource, because KubeEdge's has none and its clients write status through the main
// resource. Device has one; with it the API server ignores `status` in a manifest, which KubeEdge's older manifests
// carry (status.reportToCloud). Its successor there and here is spec.stateReport.
//
// Concurrency: plain values; copy with DeepCopy before changing an object that came from a cache.
//
// +kubebuilder:object:generate=true
// +groupName=devices.kubeedge.io
package v1beta1
