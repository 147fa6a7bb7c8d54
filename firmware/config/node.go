package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Kubernetes' syntax of label keys without their prefix, and of label values.
var (
	labelName  = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
)

func labelKey(key string) error {
	prefix, name, found := strings.Cut(key, "/")
	if !found {
		prefix, name = "", key
	}
	if found && (len(prefix) > 253 || !nodeName.MatchString(prefix)) || !labelName.MatchString(name) {
		return errors.New("a label's key is a name of letters, digits, '-', '_' and '.', at most 63, and may have a domain and '/' before it")
	}
	return nil
}

// ParseTaint reads KEY=VALUE:EFFECT or KEY:EFFECT.
func ParseTaint(text string) (corev1.Taint, error) {
	at := strings.LastIndex(text, ":")
	if at < 0 {
		return corev1.Taint{}, errors.New("allowed is KEY=VALUE:EFFECT or KEY:EFFECT, as site=north:NoSchedule")
	}
	var t corev1.Taint
	t.Effect = text[at+1:]
	t.Key, t.Value, _ = strings.Cut(text[:at], "=")
	switch t.Effect {
	case "NoSchedule", "PreferNoSchedule", "NoExecute":
	default:
		return corev1.Taint{}, fmt.Errorf("the effect %q is none of NoSchedule, PreferNoSchedule and NoExecute", t.Effect)
	}
	if err := labelKey(t.Key); err != nil {
		return corev1.Taint{}, err
	}
	if !labelValue.MatchString(t.Value) {
		return corev1.Taint{}, errors.New("the value is not one of a label")
	}
	return t, nil
}

// check finds what is wrong with the node's part of the configuration.
func (n Node) check(bad func(key string, value any, allowed string), between func(key string, d, least, most time.Duration)) {
	for k, v := range n.Labels {
		if err := labelKey(k); err != nil {
			bad("node.labels", k, err.Error())
		} else if !labelValue.MatchString(v) {
			bad("node.labels."+k, v, "allowed are at most 63 letters, digits, '-', '_' and '.'")
		}
	}
	for i, text := range n.Taints {
		if _, err := ParseTaint(text); err != nil {
			bad(fmt.Sprintf("node.taints[%d]", i), text, err.Error())
		}
	}
	for name, text := range n.Reserved {
		q, err := corev1.Quantity(text).Milli()
		switch {
		case name != "cpu" && name != "memory" && name != "ephemeral-storage":
			bad("node.reserved", name, "allowed are cpu, memory and ephemeral-storage")
		case err != nil || q < 0:
			bad("node.reserved."+name, text, "an amount is needed, as 200m of cpu or 64Mi of memory")
		}
	}
	if _, err := n.Eviction.Rules().Parse(); err != nil {
		bad("node.eviction", "thresholds", err.Error())
	}
	between("node.eviction.pressureTransitionPeriod", n.Eviction.TransitionPeriod, 0, time.Hour)
	between("node.eviction.maxPodGracePeriod", n.Eviction.MaxPodGracePeriod, time.Second, time.Hour)
	between("node.shutdown.gracePeriod", n.Shutdown.GracePeriod, 0, time.Hour)
	between("node.shutdown.gracePeriodCriticalPods", n.Shutdown.GracePeriodCriticalPods, 0, n.Shutdown.GracePeriod)
}
