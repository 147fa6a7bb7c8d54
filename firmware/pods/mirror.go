package pods

import (
	"maps"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// mirrorOf returns the UID of the static pod that a pod of the API mirrors, "" if it is no mirror. A mirror is never run.
func mirrorOf(pod *corev1.Pod) string { return pod.Metadata.Annotations[annoMirror] }

// reconcile compares the mirrors that the cluster has with the static pods that there are: those that are missing are asked for, those
// of other files, or that somebody is deleting, are given up, and made again.
func (s *statics) reconcile(found map[wire.Key]*desiredPod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mirrors := map[wire.Key]wire.Key{}
	for key, d := range found {
		own := wire.NewKey(wire.KindPod, key.Namespace(), key.Name(), mirrorOf(&d.pod))
		if s.find(own) != nil && !d.terminating() {
			mirrors[own] = key
			delete(s.gone, key)
			continue
		}
		if !s.gone[key] {
			s.gone[key] = true
			s.report(key, &corev1.PodReport{Deleted: true})
		}
	}
	for key := range s.gone {
		if found[key] == nil {
			delete(s.gone, key)
			s.m.o.Reports.Withdraw(key)
		}
	}
	for own, now := range mirrors {
		if s.mirrors[own] != now {
			if s.asked[own] {
				s.m.o.Reports.Withdraw(own)
				delete(s.asked, own)
			}
			if body := s.told[own]; body != nil {
				s.m.o.Reports.Report(now, body)
			}
		}
	}
	s.mirrors = mirrors
	for _, p := range s.byFile {
		own := p.object.Key
		if _, there := mirrors[own]; !there && !s.asked[own] && !s.nameTaken(found, own) {
			s.asked[own] = true
			s.m.o.Reports.Report(own, p.request)
		}
	}
	maps.DeleteFunc(s.asked, func(own wire.Key, _ bool) bool {
		if s.find(own) != nil {
			return false
		}
		s.m.o.Reports.Withdraw(own)
		return true
	})
}

// nameTaken reports whether a mirror of another file still has the name. s.mu is held.
func (s *statics) nameTaken(found map[wire.Key]*desiredPod, own wire.Key) bool {
	for key := range found {
		if key.Namespace() == own.Namespace() && key.Name() == own.Name() {
			return true
		}
	}
	return false
}

func (s *statics) report(key wire.Key, doc *corev1.PodReport) {
	if body, err := corev1.Canonical(doc); err == nil {
		s.m.o.Reports.Report(key, body)
	}
}

// say reports on a pod; on a static one, on its mirror, as soon as there is one.
func (s *statics) say(key wire.Key, body []byte) {
	s.mu.Lock()
	static := s.find(key) != nil
	if static {
		s.told[key] = body
	}
	to, there := s.mirrors[key]
	s.mu.Unlock()
	switch {
	case !static:
		s.m.o.Reports.Report(key, body)
	case there:
		s.m.o.Reports.Report(to, body)
	}
}

// withdraw says that nothing is to be reported about a pod any more.
func (s *statics) withdraw(key wire.Key) {
	s.mu.Lock()
	_, told := s.told[key]
	delete(s.told, key)
	s.mu.Unlock()
	if !told {
		s.m.o.Reports.Withdraw(key)
	}
}
