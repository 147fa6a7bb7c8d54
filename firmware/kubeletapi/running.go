package kubeletapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
)

// The pods of /runningpods/: what the runtime runs, whatever the cluster wants.
type (
	runningPod struct {
		Metadata runningMeta `json:"metadata"`
		Spec     struct {
			Containers []runningContainer `json:"containers"`
		} `json:"spec"`
		Status struct{} `json:"status"`
	}
	runningMeta struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	}
	runningContainer struct {
		Name      string   `json:"name"`
		Image     string   `json:"image,omitempty"`
		Resources struct{} `json:"resources"`
	}
)

// serveRunningPods answers /runningpods/ with the pods that have a sandbox, and their containers that run.
func (s *Server) serveRunningPods(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), statsTimeout)
	defer cancel()
	sandboxes, err := s.o.Runtime.ListPodSandbox(ctx, &cri.PodSandboxFilter{State: new(cri.SandboxReady)})
	var containers []cri.Container
	if err == nil {
		containers, err = s.o.Runtime.ListContainers(ctx, &cri.ContainerFilter{State: new(cri.ContainerRunning)})
	}
	if err != nil {
		s.runtimeFailed(w, "list of pods that run", err)
		return
	}
	byPod := map[string]*runningPod{}
	for i := range sandboxes {
		if m := sandboxes[i].Metadata; m != nil {
			byPod[m.UID] = &runningPod{Metadata: runningMeta{m.Name, m.Namespace, m.UID}}
		}
	}
	for i := range containers {
		c := &containers[i]
		if p := byPod[c.Labels[labelPodUID]]; p != nil {
			p.Spec.Containers = append(p.Spec.Containers, runningContainer{Name: c.Labels[labelContainer], Image: c.ImageRef})
		}
	}
	items := make([]*runningPod, 0, len(byPod))
	for _, p := range byPod {
		slices.SortFunc(p.Spec.Containers, func(a, b runningContainer) int { return strings.Compare(a.Name, b.Name) })
		items = append(items, p)
	}
	slices.SortFunc(items, func(a, b *runningPod) int {
		return strings.Compare(a.Metadata.Namespace+"/"+a.Metadata.Name+"/"+a.Metadata.UID, b.Metadata.Namespace+"/"+b.Metadata.Name+"/"+b.Metadata.UID)
	})
	writeJSON(w, map[string]any{"kind": "PodList", "apiVersion": "v1", "metadata": struct{}{}, "items": items})
}

// serveConfig answers /configz with what of a kubelet's configuration has a meaning here.
func (s *Server) serveConfig(w http.ResponseWriter, _ *http.Request) {
	config := map[string]any{}
	if s.o.Config != nil {
		config = s.o.Config()
	}
	config["kind"], config["apiVersion"] = "KubeletConfiguration", "kubelet.config.k8s.io/v1beta1"
	config["streamingConnectionIdleTimeout"] = s.o.Idle.String()
	writeJSON(w, map[string]any{"kubeletconfig": config})
}

func writeJSON(w http.ResponseWriter, doc any) {
	b, err := json.Marshal(doc)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}
