package pods

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// node makes the node's own object known.
func (w *world) selfNode(labels, taints string) {
	w.put("nodes//gw-1", `{"metadata":{"name":"gw-1","labels":{`+labels+`}},"spec":{"taints":[`+taints+`]}}`)
}

// small makes a pod of that name and puts it; spec is put into its spec, c into its container.
func (w *world) small(name, spec, c string) *corev1.PodStatus {
	w.t.Helper()
	key := wire.Key("pods/default/" + name + "/u-" + name)
	if spec != "" {
		spec += ","
	}
	if c != "" {
		c = "," + c
	}
	w.put(key, `{"metadata":{"name":"`+name+`","namespace":"default","uid":"u-`+name+`"},"spec":{`+spec+`"containers":[{"name":"`+name+`","image":"app:1"`+c+`}]}}`)
	w.settle(8 * time.Second)
	r := w.report(key)
	if r.Status == nil {
		return &corev1.PodStatus{}
	}
	return r.Status
}

func requests(list string) string { return `"resources":{"requests":{` + list + `}}` }

// TestAdmission: what does not fit or does not belong here fails on arrival, with the kubelet's reasons.
func TestAdmission(t *testing.T) {
	for i, c := range []struct{ name, spec, container, reason, message string }{
		{"cpu", "", requests(`"cpu":"3"`), "OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 3000, used: 500, capacity: 2000"},
		{"memory", "", requests(`"memory":"2Gi"`), "OutOfmemory", "Pod was rejected: Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: "},
		{"storage", "", requests(`"ephemeral-storage":"100Gi"`), "OutOfephemeral-storage", ""},
		{"hugepages", "", requests(`"hugepages-2Mi":"2Mi"`), "OutOfhugepages-2Mi", ""},
		{"selector", `"nodeSelector":{"site":"south"}`, "", "NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		{"arch", `"nodeSelector":{"kubernetes.io/arch":"s390x"}`, "", "NodeAffinity", ""},
		{"fits", `"nodeSelector":{"site":"north","kubernetes.io/arch":"` + runtime.GOARCH + `"}`, requests(`"cpu":"1"`), "", ""},
		{"taint", `"tolerations":[{"key":"other","operator":"Exists"}]`, "", "TaintToleration", "Pod was rejected: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"},
		{"tolerant", `"tolerations":[{"key":"maintenance","operator":"Equal","value":"yes","effect":"NoExecute"}]`, "", "", ""},
		{"affine", `"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"site","operator":"In","values":["north"]},{"key":"x","operator":"DoesNotExist"}]}]}}}`, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(w *world) {
				taints := `{"key":"soft","effect":"NoSchedule"}`
				if strings.HasPrefix(c.name, "t") {
					taints += `,{"key":"maintenance","value":"yes","effect":"NoExecute"}`
				}
				w.selfNode(`"site":"north"`, `{"key":"soft","effect":"NoSchedule"}`)
				w.small("resident", "", requests(`"cpu":"500m"`))
				w.selfNode(`"site":"north"`, taints)
				s := w.small(c.name, c.spec, c.container)
				if c.reason == "" {
					if s.Phase != phaseRunning {
						t.Fatalf("%d: status %+v", i, s)
					}
					return
				}
				if s.Phase != phaseFailed || s.Reason != c.reason || !strings.HasPrefix(s.Message, c.message) || len(s.ContainerStatuses) != 0 {
					t.Fatalf("status %+v", s)
				}
				if e := w.event(c.reason); e == nil || "Pod was rejected: "+e.message != s.Message {
					t.Errorf("event %+v", e)
				}
				if n := w.rt.called("RunPodSandbox"); n != 1 {
					t.Errorf("%d sandboxes were made", n)
				}
				w.selfNode(`"site":"south"`, "")
				if got := w.small("resident", `"nodeSelector":{"site":"east"}`, ""); got.Phase != phaseRunning {
					t.Errorf("a pod that runs was asked again: %+v", got)
				}
			})
		})
	}
}

// TestAdmissionCountsOthers: pods that fit one by one do not fit together; what has ended gives its part back.
func TestAdmissionCountsOthers(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["a"] = func(uint32) run { return run{lasts: 30 * time.Second} }
		if s := w.small("a", `"restartPolicy":"Never"`, requests(`"cpu":"1500m"`)); s.Phase != phaseRunning {
			t.Fatalf("a: %+v", s)
		}
		if s := w.small("b", "", requests(`"cpu":"1"`)); s.Reason != "OutOfcpu" {
			t.Fatalf("b: %+v", s)
		}
		w.settle(30 * time.Second)
		if s := w.small("c", "", requests(`"cpu":"1"`)); s.Phase != phaseRunning {
			t.Fatalf("c: %+v", s)
		}
		w.stop()
		w.o.Reserved = corev1.ResourceList{"cpu": "1900m"} // the node has become smaller
		w.start()
		w.settle(10 * time.Second)
		if w.phase("c") != phaseRunning {
			t.Error("what ran before was asked again")
		}
		if s := w.small("d", "", requests(`"cpu":"50m"`)); s.Reason != "OutOfcpu" || !strings.Contains(s.Message, "used: 1000, capacity: 100") {
			t.Errorf("d: %+v", s)
		}
	})
}

func TestAdmissionPods(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		w.o.MaxPods = 2
		w.start()
		for i, want := range []string{"", "", "OutOfpods"} {
			if s := w.small(fmt.Sprintf("p%d", i), "", ""); s.Reason != want {
				t.Errorf("pod %d: %+v", i, s)
			}
		}
	})
}

// TestPreemption: a critical pod gets its room from others, no more of them than needed, the least important first.
func TestPreemption(t *testing.T) {
	simulate(t, func(w *world) {
		w.small("guaranteed", `"priority":5`, `"resources":{"limits":{"cpu":"500m","memory":"10Mi"}}`)
		w.small("low", `"priority":1`, requests(`"cpu":"600m"`))
		w.small("high", `"priority":1000`, requests(`"cpu":"600m"`))
		w.small("vital", `"priority":2000000000`, requests(`"cpu":"500m"`))
		w.settle(10 * time.Second)
		if s := w.report("pods/default/vital/u-vital").Status; s.Phase != phaseRunning {
			t.Fatalf("vital: %+v", s)
		}
		low := w.report("pods/default/low/u-low").Status
		if low.Reason != "Preempting" || low.Message != messagePreempted || cond(low.Conditions, condDisruption).Reason != reasonByNode {
			t.Errorf("low: %+v", low)
		}
		if w.phase("high") != phaseRunning || w.phase("guaranteed") != phaseRunning {
			t.Error("more was ended than needed")
		}
		if s := w.small("giant", `"priority":2000000000`, requests(`"cpu":"64"`)); s.Reason != reasonUnexpected || w.phase("high") != phaseRunning {
			t.Errorf("giant: %+v", s)
		}
	})
}

// TestAdmissionUnderPressure: a node that runs short takes no new pods but critical ones, and under pressure of memory those that ask
// for some.
func TestAdmissionUnderPressure(t *testing.T) {
	simulate(t, func(w *world) {
		w.memoryLeft(40)
		w.settle(11 * time.Second)
		w.memoryLeft(500) // the condition stays for a while
		if s := w.small("besteffort", "", ""); s.Reason != reasonEvicted || s.Message != "Pod was rejected: The node had condition: [MemoryPressure]. " {
			t.Errorf("%+v", s)
		}
		if s := w.small("tolerant", `"tolerations":[{"key":"node.kubernetes.io/memory-pressure","operator":"Exists","effect":"NoSchedule"}]`, ""); s.Phase != phaseRunning {
			t.Errorf("%+v", s)
		}
		if s := w.small("burstable", "", requests(`"memory":"10Mi"`)); s.Phase != phaseRunning {
			t.Errorf("%+v", s)
		}
		w.machine().set(func(v *Measurement) { v.InodesFree = 10 })
		w.settle(11 * time.Second)
		w.machine().set(nil)
		if s := w.small("late", "", requests(`"memory":"10Mi"`)); s.Message != "Pod was rejected: The node had condition: [MemoryPressure DiskPressure]. " {
			t.Errorf("%+v", s)
		}
		if s := w.small("vital", `"priority":2000000000`, ""); s.Phase != phaseRunning {
			t.Errorf("%+v", s)
		}
	})
}

// TestAdmissionWaitsForTheNode: labels that have not arrived are waited for, and those of a node that is not known at all for as long as
// it takes.
func TestAdmissionWaitsForTheNode(t *testing.T) {
	simulate(t, func(w *world) {
		if s := w.small("early", `"nodeSelector":{"site":"north"}`, ""); s.Phase == phaseFailed {
			t.Fatalf("%+v", s)
		}
		w.settle(time.Hour)
		w.selfNode(`"site":"north"`, "")
		w.settle(11 * time.Second)
		if w.phase("early") != phaseRunning {
			t.Errorf("%+v", w.phase("early"))
		}
	})
}

func TestTolerates(t *testing.T) {
	taint := corev1.Taint{Key: "k", Value: "5", Effect: "NoExecute"}
	for i, c := range []struct {
		t    corev1.Toleration
		want bool
	}{
		{corev1.Toleration{Operator: "Exists"}, true}, {corev1.Toleration{}, false}, {corev1.Toleration{Key: "k", Value: "5"}, true},
		{corev1.Toleration{Key: "k", Value: "6"}, false}, {corev1.Toleration{Key: "k", Operator: "Exists", Effect: "NoSchedule"}, false},
		{corev1.Toleration{Key: "k", Operator: "Gt", Value: "4"}, true}, {corev1.Toleration{Key: "k", Operator: "Lt", Value: "4"}, false},
		{corev1.Toleration{Key: "j", Operator: "Exists"}, false}, {corev1.Toleration{Key: "k", Operator: "Lt", Value: "x"}, false},
	} {
		if got := tolerates(&c.t, &taint); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}

// TestAdmissionAfterUpgrade: a pod that an older agent could not run is asked whether it fits once a newer one could.
func TestAdmissionAfterUpgrade(t *testing.T) {
	simulate(t, func(w *world) {
		if s := w.small("odd", `"aFieldOfTomorrow":{"deep":[1]}`, ""); s.Reason != reasonUnsupported {
			t.Fatalf("status %+v", s)
		}
		w.stop()
		w.put("pods/default/odd/u-odd", `{"metadata":{"name":"odd","namespace":"default","uid":"u-odd"},"spec":{"containers":[{"name":"odd","image":"app:1","resources":{"requests":{"cpu":"64"}}}]}}`)
		w.start()
		w.settle(2 * time.Second)
		if s := w.report("pods/default/odd/u-odd").Status; s.Phase != phaseFailed || s.Reason != "OutOfcpu" {
			t.Errorf("status %+v", s)
		}
	})
}

// TestAdmissionAfterTheRuntimeWasAway: a pod that came while the runtime did not answer is asked whether it fits, even if the agent was restarted
// meanwhile. Only a pod that was let in before is not.
func TestAdmissionAfterTheRuntimeWasAway(t *testing.T) {
	simulate(t, func(w *world) {
		if s := w.small("resident", "", requests(`"cpu":"1"`)); s.Phase != phaseRunning {
			t.Fatalf("status %+v", s)
		}
		w.stop()
		w.rt.setDown(errFakeDown)
		w.o.Reserved = corev1.ResourceList{"cpu": "1900m"} // the node has become smaller
		w.start()
		if s := w.small("newcomer", "", requests(`"cpu":"1"`)); s.Phase != phasePending || !strings.Contains(s.ContainerStatuses[0].State.Waiting.Message, "closed") {
			t.Fatalf("status %+v", s)
		}
		w.stop()
		w.rt.setDown(nil)
		w.start()
		w.settle(5 * time.Second)
		if s := w.report("pods/default/newcomer/u-newcomer").Status; s.Phase != phaseFailed || s.Reason != "OutOfcpu" {
			t.Errorf("status %+v", s)
		}
		if w.phase("resident") != phaseRunning {
			t.Error("what ran before was asked again")
		}
	})
}

// TestAdmissionAfterAShutdown: a pod that came when the gateway was about to go down has not been let in: it is asked after the boot.
func TestAdmissionAfterAShutdown(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.setDown(errFakeDown)
		w.settle(5 * time.Second)
		w.small("giant", "", requests(`"cpu":"64"`))
		down := make(chan error, 1)
		go func() { down <- w.m.Shutdown(context.Background(), 3*time.Second, 0) }()
		w.settle(time.Millisecond)
		w.rt.setDown(nil)
		if err := <-down; err != nil {
			t.Error(err)
		}
		w.stop()
		w.start()
		w.settle(5 * time.Second)
		if s := w.report("pods/default/giant/u-giant").Status; s.Phase != phaseFailed || s.Reason != "OutOfcpu" {
			t.Errorf("status %+v", s)
		}
	})
}
