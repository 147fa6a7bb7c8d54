package mqtt

import (
	"strings"
	"unicode/utf8"
)

// Limits of topics and filters. The protocol allows 65,535 bytes and as many levels.
const (
	maxTopic  = 1024
	maxLevels = 32
)

// Identity is somebody who may use the broker.
type Identity struct {
	Name string
	// Device is the NAMESPACE/NAME of the device that it is; empty: an application.
	Device string
	// Certificate is the common name, or a DNS, mail or URI name, of its client certificate; empty: it has none.
	Certificate string
	// Publish and Subscribe are topic filters, beside those of its device.
	Publish, Subscribe []string
}

// mayPublish judges a topic. Below $hw/events/device and node only requests may be published, whoever asks: answers are the broker's own.
func (id *Identity) mayPublish(topic string) bool {
	if !ValidTopic(topic) {
		return false
	}
	if reserved(topic) {
		req, ok := parseRequest(topic)
		if !ok {
			return false
		}
		if id.Device != "" && req.device() == id.Device {
			return true
		}
	}
	return coveredBy(id.Publish, topic)
}

// mayReceive judges a subscription's filter, or the topic of a message that is to be delivered.
func (id *Identity) mayReceive(filter string) bool {
	filter, ok := unshared(filter)
	if !ok || !ValidFilter(filter) {
		return false
	}
	if id.Device != "" && covers(deviceTopics+id.Device+"/#", filter) {
		return true
	}
	return coveredBy(id.Subscribe, filter)
}

func coveredBy(rules []string, filter string) bool {
	for _, rule := range rules {
		if covers(rule, filter) {
			return true
		}
	}
	return false
}

// unshared takes the name of its group from the filter of a shared subscription (MQTT 5, 4.8.2).
func unshared(filter string) (string, bool) {
	first, rest, more := strings.Cut(filter, "/")
	if !strings.EqualFold(first, "$share") { // the broker ignores the case
		return filter, true
	}
	group, rest, ok := strings.Cut(rest, "/")
	return rest, more && ok && group != "" && !strings.ContainsAny(group, "+#")
}

// covers tells whether rule matches every topic that filter matches. A topic is a filter that matches itself alone. Wildcards at the beginning match no
// topic that begins with $ (MQTT 3.1.1, 4.7.2).
func covers(rule, filter string) bool {
	for first := true; ; first = false {
		r, rules, moreRules := strings.Cut(rule, "/")
		f, rest, more := strings.Cut(filter, "/")
		dollar := first && strings.HasPrefix(f, "$")
		switch {
		case r == "#":
			return !dollar
		case f == "#":
			return false
		case r == "+" && dollar, r != "+" && r != f:
			return false
		}
		switch {
		case !more && !moreRules:
			return true
		case !more:
			return rules == "#" // "a/#" matches "a", too
		case !moreRules:
			return false
		}
		rule, filter = rules, rest
	}
}

// ValidFilter tells whether s is a topic filter that this broker takes.
func ValidFilter(s string) bool {
	if s == "" || len(s) > maxTopic || !utf8.ValidString(s) || strings.ContainsRune(s, 0) || strings.Count(s, "/") >= maxLevels {
		return false
	}
	for rest, more := s, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if level == "#" && more || len(level) > 1 && strings.ContainsAny(level, "+#") {
			return false
		}
	}
	return true
}

// ValidTopic tells whether s is the name of a topic that this broker takes.
func ValidTopic(s string) bool { return ValidFilter(s) && !strings.ContainsAny(s, "+#") }
