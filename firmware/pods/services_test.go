package pods

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

func objectOf(t *testing.T, key wire.Key, doc string) wire.Object {
	t.Helper()
	body, err := canon.FromJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return wire.Object{Key: key, Version: wire.BodyVersion("u", body), Revision: 7, Body: body}
}

func absentObject(key wire.Key) wire.Object {
	return wire.Object{Key: key, Version: wire.AbsentVersion(), Revision: 7, Absent: true}
}

func testServices(t *testing.T) *fakeDesired {
	d := &fakeDesired{objects: map[wire.Key]wire.Object{}}
	for key, doc := range map[wire.Key]string{
		"services/default/kubernetes": `{"spec":{"clusterIP":"10.96.0.1","ports":[{"name":"https","port":443,"protocol":"TCP"}]}}`,
		"services/shop/redis-db":      `{"spec":{"clusterIP":"fd00::7","ports":[{"name":"main-port","port":6379},{"port":53,"protocol":"UDP"}]}}`,
		"services/shop/bare":          `{"spec":{"clusterIP":"10.96.0.9"}}`,
		"services/other/db":           `{"spec":{"clusterIP":"10.96.0.8","ports":[{"port":1}]}}`,
	} {
		d.put(objectOf(t, key, doc))
	}
	return d
}

// TestServiceVariables: the names and values of https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
func TestServiceVariables(t *testing.T) {
	d, no := testServices(t), false
	kubernetes := map[string]string{
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443", "KUBERNETES_PORT": "tcp://10.96.0.1:443",
		"KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP_PROTO": "tcp", "KUBERNETES_PORT_443_TCP_PORT": "443", "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
	}
	if got := serviceVariables(d, "shop", &corev1.PodSpec{EnableServiceLinks: &no}); !maps.Equal(got, kubernetes) {
		t.Errorf("without service links: %v", got)
	}
	want := maps.Clone(kubernetes)
	maps.Copy(want, map[string]string{
		"REDIS_DB_SERVICE_HOST": "fd00::7", "REDIS_DB_SERVICE_PORT": "6379", "REDIS_DB_SERVICE_PORT_MAIN_PORT": "6379", "REDIS_DB_PORT": "tcp://[fd00::7]:6379",
		"REDIS_DB_PORT_6379_TCP": "tcp://[fd00::7]:6379", "REDIS_DB_PORT_6379_TCP_PROTO": "tcp", "REDIS_DB_PORT_6379_TCP_PORT": "6379", "REDIS_DB_PORT_6379_TCP_ADDR": "fd00::7",
		"REDIS_DB_PORT_53_UDP": "udp://[fd00::7]:53", "REDIS_DB_PORT_53_UDP_PROTO": "udp", "REDIS_DB_PORT_53_UDP_PORT": "53", "REDIS_DB_PORT_53_UDP_ADDR": "fd00::7",
	})
	if got := serviceVariables(d, "shop", &corev1.PodSpec{}); !maps.Equal(got, want) {
		t.Errorf("with service links: %v", got)
	}
	d.put(objectOf(t, "services/shop/kubernetes", `{"spec":{"clusterIP":"10.96.0.77","ports":[{"port":80}]}}`))
	if got := serviceVariables(d, "shop", &corev1.PodSpec{}); got["KUBERNETES_SERVICE_HOST"] != "10.96.0.77" || got["KUBERNETES_SERVICE_PORT_HTTPS"] != "" {
		t.Errorf("a Service of the namespace that is called kubernetes: %v", got)
	}
	if got := serviceVariables(&fakeDesired{}, "shop", &corev1.PodSpec{}); len(got) != 0 {
		t.Errorf("of no Services: %v", got)
	}
}

// TestServiceVariablesGoLast: what the container sets goes before them, and $(NAME) knows them.
func TestServiceVariablesGoLast(t *testing.T) {
	d := decode(t, `{"containers":[{"name":"c","image":"a","env":[{"name":"URL","value":"http://$(A_SERVICE_HOST):$(B_SERVICE_PORT)"},{"name":"B_SERVICE_PORT","value":"mine"},{"name":"AGAIN","value":"$(B_SERVICE_PORT)"}]}]}`)
	env, err := environment(&d.pod.Spec.Containers[0], testRefs(t), &facts{pod: &d.pod, services: map[string]string{"A_SERVICE_HOST": "10.0.0.1", "B_SERVICE_PORT": "80"}})
	want := []cri.KeyValue{{Key: "URL", Value: "http://10.0.0.1:80"}, {Key: "B_SERVICE_PORT", Value: "mine"}, {Key: "AGAIN", Value: "mine"}, {Key: "A_SERVICE_HOST", Value: "10.0.0.1"}}
	if err != nil || !slices.Equal(env, want) {
		t.Errorf("%v, %v", env, err)
	}
}

func TestRuntimeHandler(t *testing.T) {
	d, name := &fakeDesired{objects: map[wire.Key]wire.Object{}}, "kata"
	spec := &corev1.PodSpec{RuntimeClassName: &name, Overhead: corev1.ResourceList{"cpu": "250m", "memory": "64Mi"}}
	if _, err := runtimeHandler(d, spec); err == nil || !strings.Contains(err.Error(), `RuntimeClass "kata" has not arrived`) {
		t.Errorf("before it has come: %v", err)
	}
	d.put(absentObject("runtimeclasses//kata"))
	if _, err := runtimeHandler(d, spec); err == nil || !strings.Contains(err.Error(), `RuntimeClass "kata" not found`) {
		t.Errorf("without a class: %v", err)
	}
	d.put(objectOf(t, "runtimeclasses//kata", `{"metadata":{"name":"kata"},"handler":"kata-qemu"}`))
	if h, err := runtimeHandler(d, spec); h != "kata-qemu" || err != nil {
		t.Errorf("%q, %v", h, err)
	}
	if h, err := runtimeHandler(d, &corev1.PodSpec{}); h != "" || err != nil {
		t.Errorf("of a pod without: %q, %v", h, err)
	}
	if o := overheadResources(spec); o.CPUShares != 256 || o.CPUQuota != 25000 || o.CPUPeriod != quotaPeriod || o.MemoryLimitInBytes != 64<<20 {
		t.Errorf("overhead %+v", o)
	}
	if o := overheadResources(&corev1.PodSpec{}); o != nil {
		t.Errorf("no overhead: %+v", o)
	}
}
