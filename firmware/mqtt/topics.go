package mqtt

import "strings"

// What is below these is answered by the agent.
const (
	deviceTopics = "$hw/events/device/"
	nodeTopics   = "$hw/events/node/"
)

// requestKind is what is asked for.
type requestKind uint8

const (
	twinUpdate requestKind = iota + 1
	twinGet
	stateUpdate
	membershipGet
)

// request is a topic that somebody may ask on: of a device, or of the node.
type request struct {
	kind            requestKind
	namespace, name string // of the device; of the node: name alone
}

// device is NAMESPACE/NAME of the request's device; empty: it is the node's.
func (r request) device() string {
	if r.kind == membershipGet {
		return ""
	}
	return r.namespace + "/" + r.name
}

// reserved tells whether a topic belongs to the agent: nothing but requests may be published there.
func reserved(topic string) bool {
	for _, prefix := range []string{deviceTopics, nodeTopics} {
		if strings.HasPrefix(topic, prefix) || topic == strings.TrimSuffix(prefix, "/") {
			return true
		}
	}
	return strings.HasPrefix(topic, "$SYS") || strings.HasPrefix(strings.ToLower(topic), "$share/")
}

// parseRequest reads the topic of a request.
func parseRequest(topic string) (request, bool) {
	if rest, ok := strings.CutPrefix(topic, deviceTopics); ok {
		namespace, rest, _ := strings.Cut(rest, "/")
		name, verb, _ := strings.Cut(rest, "/")
		r := request{namespace: namespace, name: name}
		switch verb {
		case "twin/update":
			r.kind = twinUpdate
		case "twin/get":
			r.kind = twinGet
		case "state/update":
			r.kind = stateUpdate
		}
		return r, r.kind != 0 && plainName(namespace) && plainName(name)
	}
	if rest, ok := strings.CutPrefix(topic, nodeTopics); ok {
		name, verb, _ := strings.Cut(rest, "/")
		return request{kind: membershipGet, name: name}, verb == "membership/get" && plainName(name)
	}
	return request{}, false
}

// plainName tells whether s may be the name of a Kubernetes object.
func plainName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// ValidDevice tells whether s is NAMESPACE/NAME.
func ValidDevice(s string) bool {
	namespace, name, ok := strings.Cut(s, "/")
	return ok && plainName(namespace) && plainName(name)
}

func deviceTopic(namespace, name, verb string) string {
	return deviceTopics + namespace + "/" + name + "/" + verb
}

func nodeTopic(node, verb string) string { return nodeTopics + node + "/membership/" + verb }
