package kubeletapi

import (
	"encoding/json"
	"net/http"

	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// servePods answers with a v1 PodList of the pods that are the node's, with the status that the agent has made. One pod is in memory
// as a whole at a time.
func (s *Server) servePods(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[`))
	first := true
	for _, p := range s.o.Pods.All() {
		b, err := podJSON(p)
		if err != nil {
			s.log.Warn("kubelet API: a pod is left out of /pods", "pod", p.Namespace+"/"+p.Name, "error", err)
			continue
		}
		if !first {
			_, _ = w.Write([]byte(","))
		}
		first = false
		if _, err := w.Write(b); err != nil {
			return
		}
	}
	_, _ = w.Write([]byte("]}\n"))
}

func podJSON(p Pod) ([]byte, error) {
	pod := map[string]json.RawMessage{}
	if len(p.Body) > 0 {
		text, err := canon.ToJSON(p.Body)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &pod); err != nil {
			return nil, err
		}
	}
	if p.Status != nil {
		body, err := corev1.Canonical(&corev1.PodReport{Status: p.Status})
		if err != nil {
			return nil, err
		}
		text, err := canon.ToJSON(body)
		if err != nil {
			return nil, err
		}
		var report struct {
			Status json.RawMessage `json:"status"`
		}
		if err := json.Unmarshal(text, &report); err != nil {
			return nil, err
		}
		pod["status"] = report.Status
	}
	return json.Marshal(pod)
}
