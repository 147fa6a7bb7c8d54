package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skerry/skerry/firmware/wire"
)

// keeping is one relay's Autonomy and its Index.
type keeping struct {
	name string
	set  *metrics.Set
	a    *Autonomy
	stop func()
}

// keep starts Autonomy of a relay on an API.
func keep(t *testing.T, api *fakeAPI, name string, o AutonomyOptions) *keeping {
	t.Helper()
	k := &keeping{name: name, set: metrics.NewSet()}
	m := NewMetrics(k.set)
	log := slog.New(slog.DiscardHandler)
	index := NewIndex(IndexOptions{Client: api, Log: log, Metrics: m})
	o.Index, o.Client, o.Relay, o.Log, o.Metrics = index, api, name, log, m
	k.a = NewAutonomy(o)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = k.a.Run(ctx) })
	wg.Go(func() { _ = index.Run(ctx) })
	k.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	return k
}

// withAutonomy runs a test with one relay.
func withAutonomy(t *testing.T, o AutonomyOptions, f func(api *fakeAPI)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		k := keep(t, api, "relay-a", o)
		defer func() { k.stop() }()
		synctest.Wait()
		f(api)
	})
}

// theNode makes gw-1, with Ready as given since some time ago, and further labels.
func theNode(t *testing.T, api *fakeAPI, ready string, since time.Duration, labels string) {
	t.Helper()
	api.put(t, wire.KindNode, fmt.Sprintf(`{"metadata":{"name":"gw-1","labels":{"node.skerry.dev/agent":"true"%s}},"status":{"conditions":[
		{"type":"Ready","status":%q,"reason":"x","lastTransitionTime":%q}]}}`, labels, ready, time.Now().Add(-since).UTC().Format(time.RFC3339)))
}

const (
	defaultTolerations = `[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}]`
	foreverTolerations = `[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists"}]`
)

func thePod(t *testing.T, api *fakeAPI, meta, tolerations, status string) {
	t.Helper()
	api.put(t, wire.KindPod, `{"metadata":{"name":"web","namespace":"default"`+meta+`},"spec":{"nodeName":"gw-1","containers":[{"name":"c"}],"tolerations":`+tolerations+`},"status":`+status+`}`)
}

func tolerationsOf(t *testing.T, api *fakeAPI) string {
	t.Helper()
	b, err := json.Marshal(field(api.get(podsGVR, "default/web"), "spec", "tolerations"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPodsTolerateThatTheirNodeIsAway(t *testing.T) {
	const limited = `[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":1800},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":1800}]`
	for name, c := range map[string]struct {
		duration     time.Duration
		labels, meta string
		have, want   string // "" want: it is left alone
	}{
		"what Kubernetes adds":            {0, "", "", defaultTolerations, foreverTolerations},
		"for a time":                      {30 * time.Minute, "", "", defaultTolerations, limited},
		"a longer one stays":              {time.Minute, "", "", defaultTolerations, ""},
		"none":                            {0, "", "", `[]`, `[{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists"},{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists"}]`},
		"a DaemonSet's":                   {0, "", "", foreverTolerations, ""},
		"everything for ever":             {0, "", "", `[{"operator":"Exists"}]`, ""},
		"everything for a time":           {0, "", "", `[{"operator":"Exists","effect":"NoExecute","tolerationSeconds":60}]`, `[{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists"},{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists"},{"effect":"NoExecute","operator":"Exists","tolerationSeconds":60}]`},
		"another taint stays":             {0, "", "", `[{"key":"a","operator":"Exists","tolerationSeconds":5,"effect":"NoExecute"},` + defaultTolerations[1:], `[{"effect":"NoExecute","key":"a","operator":"Exists","tolerationSeconds":5},` + foreverTolerations[1:]},
		"another effect does not count":   {0, "", "", `[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoSchedule"},` + defaultTolerations[1:], `[{"effect":"NoSchedule","key":"node.kubernetes.io/not-ready","operator":"Exists"},` + foreverTolerations[1:]},
		"node opts out":                   {0, `,"node.skerry.dev/autonomy":"false"`, "", defaultTolerations, ""},
		"node has a time of its own":      {0, `,"node.skerry.dev/autonomy":"30m"`, "", defaultTolerations, limited},
		"nonsense has no effect":          {0, `,"node.skerry.dev/autonomy":"yes-please"`, "", defaultTolerations, foreverTolerations},
		"pod opts out by label":           {0, "", `,"labels":{"skerry.dev/autonomy":"false"}`, defaultTolerations, ""},
		"pod opts out by annotation":      {0, "", `,"annotations":{"skerry.dev/autonomy":"false"}`, defaultTolerations, ""},
		"pod has a time of its own":       {0, "", `,"annotations":{"skerry.dev/autonomy":"30m"}`, defaultTolerations, limited},
		"pod of a node that opts out":     {0, `,"node.skerry.dev/autonomy":"false"`, `,"annotations":{"skerry.dev/autonomy":"30m"}`, defaultTolerations, ""},
		"pod for ever on a node for less": {time.Hour, "", `,"annotations":{"skerry.dev/autonomy":"forever"}`, defaultTolerations, foreverTolerations},
		"static":                          {0, "", `,"annotations":{"kubernetes.io/config.mirror":"x"}`, defaultTolerations, ""},
		"terminating":                     {0, "", `,"deletionTimestamp":"2026-01-01T00:00:00Z"`, defaultTolerations, ""},
	} {
		t.Run(name, func(t *testing.T) {
			withAutonomy(t, AutonomyOptions{Duration: c.duration}, func(api *fakeAPI) {
				theNode(t, api, "True", 0, c.labels)
				thePod(t, api, c.meta, c.have, `{"phase":"Running"}`)
				before := tolerationsOf(t, api)
				synctest.Wait()
				wrote := len(api.taken())
				if c.want == "" && (wrote != 0 || tolerationsOf(t, api) != before) {
					t.Errorf("%d requests, tolerations %s", wrote, tolerationsOf(t, api))
				}
				if c.want != "" && (wrote != 1 || tolerationsOf(t, api) != c.want) {
					t.Errorf("%d requests, tolerations\n%s, want\n%s", wrote, tolerationsOf(t, api), c.want)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if again := api.taken(); len(again) != 0 {
					t.Errorf("written again: %v", again)
				}
			})
		})
	}
}

// TestPodsOfOthersAreLeftAlone: only of Skerry's nodes.
func TestPodsOfOthersAreLeftAlone(t *testing.T) {
	withAutonomy(t, AutonomyOptions{}, func(api *fakeAPI) {
		api.put(t, wire.KindNode, `{"metadata":{"name":"gw-1"},"status":{}}`)
		thePod(t, api, "", defaultTolerations, `{"phase":"Running"}`)
		synctest.Wait()
		if got := api.taken(); len(got) != 0 {
			t.Errorf("requests %v", got)
		}
		theNode(t, api, "True", 0, "") // and as soon as it is one of them
		synctest.Wait()
		if got := api.taken(); len(got) != 1 {
			t.Errorf("requests %v", got)
		}
	})
}

// TestOnePodDoesNotKeepTheOthers: what cannot be written is tried again, less and less often.
func TestOnePodDoesNotKeepTheOthers(t *testing.T) {
	withAutonomy(t, AutonomyOptions{}, func(api *fakeAPI) {
		api.failWith(func(_, resource, name string) error {
			if name == "p-0" {
				return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, name, errors.New("a policy"))
			}
			return nil
		})
		theNode(t, api, "True", 0, "")
		for i := range 5 {
			api.put(t, wire.KindPod, fmt.Sprintf(`{"metadata":{"name":"p-%d","namespace":"default"},"spec":{"nodeName":"gw-1"},"status":{}}`, i))
		}
		synctest.Wait()
		for i := range 5 {
			done := field(api.get(podsGVR, fmt.Sprintf("default/p-%d", i)), "spec", "tolerations", 1) != nil
			if done != (i > 0) {
				t.Errorf("p-%d: %t", i, done)
			}
		}
		api.taken()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(api.taken()); n < 5 || n > 20 {
			t.Errorf("%d attempts in an hour", n)
		}
	})
}

// TestAutonomyQueueDepth: what waits is to be seen, until nothing does.
func TestAutonomyQueueDepth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		k := keep(t, api, "relay-a", AutonomyOptions{QPS: 1, Burst: 1})
		defer func() { k.stop() }()
		synctest.Wait()
		nodes := autonomyWorkers + 8
		for i := range nodes {
			name := fmt.Sprintf("gw-%d", i)
			api.put(t, wire.KindNode, `{"metadata":{"name":"`+name+`","labels":{"node.skerry.dev/agent":"true"}},"status":{}}`)
			api.put(t, wire.KindPod, `{"metadata":{"name":"p-`+name+`","namespace":"default"},"spec":{"nodeName":"`+name+`"},"status":{}}`)
		}
		synctest.Wait()
		depth := k.set.GetOrCreateGauge("skerry_relay_autonomy_queue_depth", nil)
		if n := depth.Get(); n < 1 || n > float64(nodes) {
			t.Errorf("%v of %d nodes wait while one write a second is allowed", n, nodes)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := depth.Get(); n != 0 {
			t.Errorf("%v nodes wait though all pods tolerate", n)
		}
	})
}

// TestNodesTakeTurns: one with many pods does not keep one with few.
func TestNodesTakeTurns(t *testing.T) {
	withAutonomy(t, AutonomyOptions{QPS: 10, Burst: 1}, func(api *fakeAPI) {
		for _, n := range []string{"many", "few"} {
			api.put(t, wire.KindNode, `{"metadata":{"name":"`+n+`","labels":{"node.skerry.dev/agent":"true"}},"status":{}}`)
		}
		for i := range 100 {
			api.put(t, wire.KindPod, fmt.Sprintf(`{"metadata":{"name":"m-%d","namespace":"default"},"spec":{"nodeName":"many"},"status":{}}`, i))
		}
		api.put(t, wire.KindPod, `{"metadata":{"name":"web","namespace":"default"},"spec":{"nodeName":"few"},"status":{}}`)
		time.Sleep(time.Second)
		synctest.Wait()
		if field(api.get(podsGVR, "default/web"), "spec", "tolerations", 1) == nil {
			t.Error("the node with one pod waits for the one with many")
		}
		if n := len(api.taken()); n > 12 {
			t.Errorf("%d requests in a second, the budget is 10", n)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(api.taken()); n < 88 {
			t.Errorf("%d requests then", n)
		}
	})
}

// podOf is a status whose Ready condition was given since a time, and its containers are ready or not.
func podOf(ready, reason, containers, phase string, since time.Duration) string {
	at := time.Now().Add(-since).UTC().Format(time.RFC3339)
	return fmt.Sprintf(`{"phase":%q,"conditions":[{"type":"PodScheduled","status":"True"},{"type":"Ready","status":%q,"reason":%q,"lastTransitionTime":%q},
		{"type":"ContainersReady","status":%q,"lastTransitionTime":"1999-12-31T00:00:00Z"}]}`, phase, ready, reason, at, containers)
}

func readyOf(api *fakeAPI) (status, reason, since string) {
	c := conditionOf(api.get(podsGVR, "default/web"), "Ready")
	return text(c, "status"), text(c, "reason"), text(c, "lastTransitionTime")
}

func TestServicesKeepPodsOfANodeThatIsCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		node     string
		away     time.Duration
		duration time.Duration
		meta     string
		labels   string
		status   func() string
		restored bool
	}{
		"marked by the node controller": {node: "Unknown", status: func() string { return podOf("False", "", "True", "Running", 0) }, restored: true},
		"within the time":               {node: "Unknown", away: time.Minute, duration: time.Hour, status: func() string { return podOf("False", "", "True", "Running", 0) }, restored: true},
		"after the time":                {node: "Unknown", away: 2 * time.Hour, duration: time.Hour, status: func() string { return podOf("False", "", "True", "Running", 0) }},
		"it was not ready before":       {node: "Unknown", status: func() string { return podOf("False", "ContainersNotReady", "False", "Running", 0) }},
		"the node is not away":          {node: "True", status: func() string { return podOf("False", "", "True", "Running", 0) }},
		"the node says so itself":       {node: "False", status: func() string { return podOf("False", "", "True", "Running", 0) }},
		"node opts out":                 {node: "Unknown", labels: `,"node.skerry.dev/autonomy":"false"`, status: func() string { return podOf("False", "", "True", "Running", 0) }},
		"pod opts out":                  {node: "Unknown", meta: `,"labels":{"skerry.dev/autonomy":"false"}`, status: func() string { return podOf("False", "", "True", "Running", 0) }},
		"it has ended":                  {node: "Unknown", status: func() string { return podOf("False", "", "True", "Succeeded", 0) }},
		"it is being deleted":           {node: "Unknown", meta: `,"deletionTimestamp":"2026-01-01T00:00:00Z"`, status: func() string { return podOf("False", "", "True", "Running", 0) }},
		"marked again just now":         {node: "Unknown", status: func() string { return podOf("False", reasonRestored, "True", "Running", 0) }},
		"marked again some time ago":    {node: "Unknown", away: time.Hour, status: func() string { return podOf("False", reasonRestored, "True", "Running", 6*time.Minute) }, restored: true},
	} {
		t.Run(name, func(t *testing.T) {
			withAutonomy(t, AutonomyOptions{Duration: c.duration}, func(api *fakeAPI) {
				theNode(t, api, c.node, c.away, c.labels)
				thePod(t, api, c.meta, foreverTolerations, c.status())
				time.Sleep(time.Second)
				synctest.Wait()
				status, reason, since := readyOf(api)
				if got := api.taken(); c.restored != (len(got) == 1) || c.restored != (status == "True") {
					t.Errorf("Ready is %s (%s), requests %v", status, reason, got)
				}
				if c.restored && (reason != reasonRestored || since != "1999-12-31T00:00:00Z") {
					t.Errorf("restored with reason %s since %s", reason, since)
				}
			})
		})
	}
}

// TestReadinessGatesCount: a pod whose gate is closed was not ready.
func TestReadinessGatesCount(t *testing.T) {
	for _, gate := range []string{"True", "False", ""} {
		withAutonomy(t, AutonomyOptions{}, func(api *fakeAPI) {
			theNode(t, api, "Unknown", 0, "")
			status := strings.Replace(podOf("False", "", "True", "Running", 0), `{"type":"PodScheduled"`, `{"type":"example.org/g","status":"`+gate+`"},{"type":"PodScheduled"`, 1)
			api.put(t, wire.KindPod, `{"metadata":{"name":"web","namespace":"default"},"spec":{"nodeName":"gw-1","readinessGates":[{"conditionType":"example.org/g"}],"tolerations":`+foreverTolerations+`},"status":`+status+`}`)
			synctest.Wait()
			if s, _, _ := readyOf(api); (s == "True") != (gate == "True") {
				t.Errorf("gate %q: Ready is %s", gate, s)
			}
		})
	}
}

// TestRestoredOnce: somebody who insists is not fought, and what is restored ends with its time.
func TestRestoredOnce(t *testing.T) {
	withAutonomy(t, AutonomyOptions{Duration: time.Hour}, func(api *fakeAPI) {
		theNode(t, api, "Unknown", 0, "")
		thePod(t, api, "", foreverTolerations, podOf("False", "", "True", "Running", 0))
		for range 10 {
			synctest.Wait()
			if s, reason, _ := readyOf(api); s == "True" { // what the node controller does when it is started anew
				thePod(t, api, "", foreverTolerations, podOf("False", reason, "True", "Running", 0))
			}
			time.Sleep(time.Second)
		}
		if n := len(api.taken()); n != 1 {
			t.Errorf("%d requests in 10 s", n)
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if s, _, _ := readyOf(api); s != "True" || len(api.taken()) != 1 {
			t.Errorf("6 min later Ready is %s", s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if s, _, _ := readyOf(api); s != "False" || len(api.taken()) != 1 {
			t.Errorf("after its time Ready is %s", s)
		}
	})
}

// TestRelayThatWasAway does what was due.
func TestRelayThatWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		theNode(t, api, "Unknown", 10*time.Minute, "")
		thePod(t, api, "", defaultTolerations, podOf("False", "", "True", "Running", 10*time.Minute))
		k := keep(t, api, "relay-a", AutonomyOptions{})
		time.Sleep(time.Second)
		synctest.Wait()
		if s, _, _ := readyOf(api); s != "True" || tolerationsOf(t, api) != foreverTolerations {
			t.Errorf("Ready is %s, tolerations %s", s, tolerationsOf(t, api))
		}
		k.stop()
	})
}

// TestSeveralRelays: each pod is written once, by whichever relay lives.
func TestSeveralRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		var mu sync.Mutex
		alive := map[string]bool{"relay-a": true, "relay-b": true, "relay-c": true}
		who := func() map[string]bool {
			mu.Lock()
			defer mu.Unlock()
			out := map[string]bool{}
			for k := range alive {
				out[k] = true
			}
			return out
		}
		var relays []*keeping
		for name := range alive {
			relays = append(relays, keep(t, api, name, AutonomyOptions{Alive: who}))
		}
		synctest.Wait()
		add := func(from, to int) {
			for i := from; i < to; i++ {
				api.put(t, wire.KindNode, fmt.Sprintf(`{"metadata":{"name":"n-%d","labels":{"node.skerry.dev/agent":"true"}},"status":{}}`, i))
				api.put(t, wire.KindPod, fmt.Sprintf(`{"metadata":{"name":"p-%d","namespace":"default"},"spec":{"nodeName":"n-%d"},"status":{}}`, i, i))
			}
			synctest.Wait()
		}
		add(0, 60)
		if n := len(api.taken()); n != 60 {
			t.Errorf("%d requests for 60 pods", n)
		}
		for _, k := range relays {
			if n := k.set.GetOrCreateCounter(`skerry_relay_autonomy_writes_total{what="toleration"}`).Get(); n < 8 || n > 35 {
				t.Errorf("%s did %d of 60", k.name, n)
			}
		}
		relays[0].stop() // it dies, and the others do not know yet
		add(60, 120)
		done := len(api.taken())
		mu.Lock()
		delete(alive, relays[0].name)
		mu.Unlock()
		time.Sleep(2 * lookPeriod)
		synctest.Wait()
		if n := done + len(api.taken()); n != 60 {
			t.Errorf("%d requests for the other 60", n)
		}
		for _, k := range relays[1:] {
			k.stop()
		}
	})
}

// TestNodeMayNotLabelItself with what decides about it.
func TestNodeMayNotLabelItself(t *testing.T) {
	for _, name := range []string{agentLabel, autonomyLabel} {
		if nodeMayLabel(name) {
			t.Errorf("a node may set %s on itself", name)
		}
	}
}

// TestRelaysThatAreNotKnownYet: a relay that has just started waits until it knows the others, and not longer.
func TestRelaysThatAreNotKnownYet(t *testing.T) {
	var known atomic.Bool
	withAutonomy(t, AutonomyOptions{Alive: func() map[string]bool {
		if !known.Load() {
			return nil
		}
		return map[string]bool{"relay-a": true}
	}}, func(api *fakeAPI) {
		theNode(t, api, "True", 0, "")
		thePod(t, api, "", defaultTolerations, `{"phase":"Running"}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := api.taken(); len(got) != 0 {
			t.Errorf("requests %v before it is known who lives", got)
		}
		known.Store(true)
		time.Sleep(lookSoon)
		synctest.Wait()
		if got := api.taken(); len(got) != 1 {
			t.Errorf("requests %v then", got)
		}
	})
}
