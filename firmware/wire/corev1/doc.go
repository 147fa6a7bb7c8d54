// Package corev1 holds the agent's typed view of the core Kubernetes objects that cross the link: pods, configMaps,
// secrets, services, claims, volumes, runtime classes and nodes, and the status documents that the agent reports.
//
// The bytes are canonical MessagePack of the objects' own JSON field names (see package wire), so these structs carry
// the Kubernetes names as tags and decode only the fields that the agent uses; every other field is skipped. They are not
// a copy of k8s.io/api: that module is never linked into the agent.
//
// Decode with UnmarshalMsg, encode with MarshalMsg:
//
//	var pod corev1.Pod
//	_, err := pod.UnmarshalMsg(object.Body)
//
// Encodings are deterministic: struct fields are declared in the order of their names, and maps are written in the order
// of their keys, so that equal values have equal bytes and a report can be compared with the one before it.
//
// Some values need codecs of their own (codec.go), because JSON knows fewer types than MessagePack:
//
//   - IntOrString is an integer or a string,
//   - Quantity is a string ("100m", "64Mi") or a plain number,
//   - Time is an RFC 3339 string,
//   - Base64 is bytes in a base64 string (Secret.data, ConfigMap.binaryData),
//   - StringMap and BytesMap are maps that are encoded in the order of their keys.
//
// A nil where a string, map, list or struct belongs is an error: the relay's encoder drops nulls before they get here.
// Lengths that the input declares are held to limits before memory is taken for them.
//
// Values are plain data: concurrent readers are fine, a writer needs the value for itself. Tests: golden vectors, round
// trips, and a fuzzed decoder.
package corev1
