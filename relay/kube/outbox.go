package kube

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry/skerry/firmware/wire"
)

const (
	eventMessageLimit = 1024 // the API's own limit for an event's message, bytes
	eventReasonLimit  = 128
	eventPathLimit    = 256
	eventSourceLimit  = 63
	defaultNamespace  = "default" // where events about cluster-scoped objects live
)

// Outbox stores events as Kubernetes events. Their names are made of node, outbox epoch and sequence, so that an item that
// comes twice is stored once. nil means that the agent may forget the items; items that can never be stored (unreadable,
// about another node's object, a namespace that is gone) are logged, counted, and forgotten with the others. A node that has
// more to tell than eventsPerSecond waits.
func (s *Sink) Outbox(ctx context.Context, node string, items []wire.OutboxItem) error {
	for _, it := range items {
		if err := s.awaitEvent(ctx, node); err != nil {
			return fmt.Errorf("node %s, outbox item %d/%d: %w", node, it.Epoch, it.Seq, err)
		}
		err := s.storeEvent(ctx, node, it)
		switch {
		case err == nil:
			s.opts.Metrics.events("stored")
		case apierrors.IsAlreadyExists(err):
			s.opts.Metrics.events("duplicate")
			s.remark(node, slog.LevelInfo, "event was stored before; what came now is ignored", slog.Uint64("epoch", it.Epoch), slog.Uint64("seq", it.Seq))
		case permanent(err) || apierrors.IsNotFound(err):
			s.opts.Metrics.events("refused")
			s.complain(node, slog.LevelWarn, "event cannot be stored; dropped",
				slog.Uint64("epoch", it.Epoch), slog.Uint64("seq", it.Seq), slog.Any("error", err))
		default:
			s.opts.Metrics.events("failed")
			return fmt.Errorf("node %s, outbox item %d/%d: %w", node, it.Epoch, it.Seq, err)
		}
	}
	return nil
}

func (s *Sink) storeEvent(ctx context.Context, node string, it wire.OutboxItem) error {
	if it.Kind != wire.KindOfEvent {
		return refusal{fmt.Sprintf("unknown kind of outbox item %q", it.Kind)}
	}
	doc, err := decodeReport(it.Body)
	if err != nil {
		return refusal{"event cannot be read: " + err.Error()}
	}
	event, err := s.event(node, it, doc)
	if err != nil {
		return err
	}
	obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(event)
	if err != nil {
		return refusal{err.Error()}
	}
	_, err = s.opts.Client.Resource(eventsGVR).Namespace(event.Namespace).
		Create(ctx, &unstructured.Unstructured{Object: obj}, metav1.CreateOptions{FieldManager: fieldManager})
	return err
}

func (s *Sink) event(node string, it wire.OutboxItem, doc map[string]any) (*corev1.Event, error) {
	ref, message, err := s.eventTarget(node, child(doc, "ref"), text(doc, "message"))
	if err != nil {
		return nil, err
	}
	eventType := text(doc, "type")
	if eventType != corev1.EventTypeNormal && eventType != corev1.EventTypeWarning {
		return nil, refusal{fmt.Sprintf("event type %q is neither Normal nor Warning", eventType)}
	}
	at, err := time.Parse(time.RFC3339Nano, text(doc, "time"))
	if err != nil {
		return nil, refusal{fmt.Sprintf("event time %q is not RFC 3339", text(doc, "time"))}
	}
	if now := time.Now(); at.Before(noEventBefore) || at.After(now.Add(eventClockLead)) {
		s.opts.Metrics.events("time-corrected")
		s.remark(node, slog.LevelInfo, "the gateway's clock is wrong: an event gets the relay's time", slog.Time("said", at), slog.Uint64("epoch", it.Epoch), slog.Uint64("seq", it.Seq))
		at = now
	}
	component := text(doc, "component")
	if !plainName(component) {
		component = "skerryd"
	}
	namespace := ref.Namespace
	if namespace == "" {
		namespace = defaultNamespace
	}
	return &corev1.Event{
		TypeMeta:            metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: eventName(node, it)},
		InvolvedObject:      ref,
		Type:                eventType,
		Reason:              clip(text(doc, "reason"), eventReasonLimit),
		Message:             clip(message, eventMessageLimit),
		FirstTimestamp:      metav1.NewTime(at),
		LastTimestamp:       metav1.NewTime(at),
		Count:               int32(min(max(integer(doc["count"]), 1), 1<<30)),
		Source:              corev1.EventSource{Component: component, Host: node},
		ReportingController: "skerry.dev/" + component,
		ReportingInstance:   node,
	}, nil
}

// An event may be old when it comes, from an outage of months; one from before there was Skerry, or from the future, has a wrong
// clock, and would stand in front of all others for ever.
const eventClockLead = time.Hour

var noEventBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// plainName says whether s can be the name of a component: it becomes part of a qualified name.
func plainName(s string) bool {
	return s != "" && len(s) <= eventSourceLimit && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// eventName is the same whenever the item comes again. A node's name may take 253 characters, an event's no more.
func eventName(node string, it wire.OutboxItem) string {
	suffix := fmt.Sprintf(".%x.%x", it.Epoch, it.Seq)
	const limit = 253
	if len(node)+len(suffix) > limit {
		node = strings.TrimRight(node[:limit-len(suffix)], ".-")
	}
	return node + suffix
}

// eventTarget checks whom an event is about. One about an object of another node is refused. One about an object that is
// not known, or has been gone for long, cannot be checked: it is stored about the node itself, so that nothing is lost and nothing is
// written where the node has no business.
func (s *Sink) eventTarget(node string, ref map[string]any, message string) (corev1.ObjectReference, string, error) {
	kind, namespace, name, uid := text(ref, "kind"), text(ref, "namespace"), text(ref, "name"), text(ref, "uid")
	self := corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node, UID: types.UID(node)} // the kubelet's convention
	var key wire.Key
	switch kind {
	case "Node":
		if name != node {
			return self, "", refusal{fmt.Sprintf("event about node %q", name)}
		}
		if r := s.index.get(wire.NewKey(wire.KindNode, "", node, "")); r != nil && uid == r.version.UID {
			self.UID = types.UID(uid)
		}
		return self, message, nil
	case "Pod":
		key = wire.NewKey(wire.KindPod, namespace, name, uid)
	case "Device":
		key = wire.NewKey(wire.KindDevice, namespace, name, "")
	default:
		return self, "", refusal{fmt.Sprintf("event about a %q: nodes tell of nodes, pods and devices", kind)}
	}
	rec := s.index.get(key)
	if rec == nil && kind == "Pod" {
		s.mu.Lock()
		was := s.departed.was(key)
		s.mu.Unlock()
		if was == node {
			return corev1.ObjectReference{
				Kind: kind, APIVersion: "v1", Namespace: namespace, Name: name, UID: types.UID(uid), FieldPath: clip(text(ref, "fieldPath"), eventPathLimit),
			}, message, nil
		}
	}
	if rec == nil {
		return self, fmt.Sprintf("%s %s/%s (uid %s): %s", kind, namespace, name, uid, message), nil
	}
	if rec.node != node {
		return self, "", refusal{fmt.Sprintf("event about %s, which belongs to node %q", key, rec.node)}
	}
	res, _ := resourceOf(key.Kind())
	return corev1.ObjectReference{
		Kind: res.apiKind, APIVersion: res.apiVersion(), Namespace: namespace, Name: name,
		UID: types.UID(rec.version.UID), FieldPath: clip(text(ref, "fieldPath"), eventPathLimit),
	}, message, nil
}

func integer(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case uint64:
		return int64(min(v, 1<<62))
	}
	return 0
}

func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}
