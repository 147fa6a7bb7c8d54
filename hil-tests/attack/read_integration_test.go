//go:build integration

package attack

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/hil-tests/fleet"
)

func inSync(a *fleet.Agent, st link.Status) bool { return fleet.InSync(a, st) }

var secretKey = wire.NewKey(wire.KindSecret, fleet.Namespace, secretName, "")

// readAttempts try to learn what belongs to others.
func readAttempts() []attempt {
	return []attempt{
		{"hello-with-another-name", tryAnotherName, ended("forbidden"), []string{"node=NODE", victim}},
		{"secret-by-entries", trySecretByEntries, refused("holds-what-is-not-its"), []string{"node=NODE", "holds-what-is-not-its"}},
		{"secret-by-report", trySecretByReport, refused("report-on-another-kind"), []string{"node=NODE", "report-on-another-kind", string(secretKey)}},
		{"secret-by-own-pod", tryOwnPod, refused("report-on-unknown"), []string{"node=NODE", "report-on-unknown", "pods/default/mirror"}},
		{"frames-of-the-relay", tryRelayFrames, ended("protocol-error"), []string{"node=NODE", "an agent does not send compare frames"}},
	}
}

// tryAnotherName presents one node's certificate and another's name.
func tryAnotherName(t *testing.T, r *rig, node string) {
	_, err := r.attacker(t, node).Open(t.Context(), Hello(victim))
	var c *Closed
	if !errors.As(err, &c) || c.Code != wire.CloseForbidden {
		t.Fatalf("the relay says %v, want forbidden", err)
	}
}

// nothingOf fails if the attacker was sent anything but deletions.
func nothingOf(t *testing.T, seen Seen) {
	t.Helper()
	for k, o := range seen.Objects {
		if k != wire.NewKey(wire.KindNode, "", k.Name(), "") || k.Name() == victim {
			t.Errorf("the attacker was sent %s with %d bytes", k, len(o.Body))
		}
		if bytes.Contains(o.Body, []byte(crownJewel)) {
			t.Errorf("the attacker has the secret, in %s", k)
		}
	}
}

// trySecretByEntries claims to hold an old version of the secret, so that the relay may send a newer one.
func trySecretByEntries(t *testing.T, r *rig, node string) {
	claim := []wire.Entry{{Key: secretKey, Version: wire.Version{UID: "old"}}, {Key: r.podKey(t, "with-secret"), Version: wire.Version{UID: "old"}}}
	d := wire.DigestOf(1, claim)
	h := Hello(node)
	h.Digest = d.Outline()
	s, err := r.attacker(t, node).Open(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := s.Drain(patience, true, func(f wire.Frame) bool {
		if _, ok := f.(*wire.Compare); ok {
			send(t, s, &wire.Entries{Entries: []wire.EntryItem{{Key: claim[0].Key, Version: claim[0].Version}, {Key: claim[1].Key, Version: claim[1].Version}}})
		}
		_, synced := f.(*wire.Synced)
		return synced
	})
	nothingOf(t, seen)
	if !seen.Deleted[secretKey] {
		t.Errorf("the relay does not say that the secret is not this node's: %+v", seen)
	}
}

// trySecretByReport reports on the secret, and on the pod that mounts it.
func trySecretByReport(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	body := document(t, map[string]any{"status": map[string]any{"phase": "Running"}})
	report(t, s, 1, wire.ReportItem{Key: secretKey, Body: body})
	nothingOf(t, s.Drain(500*time.Millisecond, true, nil))
}

// tryOwnPod reports a pod of its own making that would mount the secret.
func tryOwnPod(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	key := wire.NewKey(wire.KindPod, fleet.Namespace, "mirror", "5eed0000-0000-4000-8000-000000000000")
	report(t, s, 1, wire.ReportItem{Key: key, Body: document(t, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{"kubernetes.io/config.mirror": "x"}},
		"spec":     map[string]any{"nodeName": node, "volumes": []any{map[string]any{"name": "s", "secret": map[string]any{"secretName": secretName}}}},
		"status":   map[string]any{"phase": "Running"},
	})})
	nothingOf(t, s.Drain(500*time.Millisecond, true, nil))
	if _, err := r.cluster.Core.CoreV1().Pods(fleet.Namespace).Get(t.Context(), "mirror", getOptions); err == nil {
		t.Error("the agent has made a pod")
	}
}

// tryRelayFrames sends what only relays send.
func tryRelayFrames(t *testing.T, r *rig, node string) {
	for _, f := range []wire.Frame{&wire.Synced{}, &wire.ReportAck{Seq: 1}, &wire.CommitPart{ID: 1, Rules: 1, Delete: []wire.Key{secretKey}}, &wire.Want{Keys: []wire.Key{secretKey}}, &wire.Compare{Buckets: ^wire.BucketSet(0)}} {
		s := open(t, r.attacker(t, node), node)
		send(t, s, f)
		if c := closed(t, s); c.Code != wire.CloseProtocol {
			t.Errorf("a %v frame of an agent ends with %v: %s", f.Type(), c.Code, c.Reason)
		}
	}
}
