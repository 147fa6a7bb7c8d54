package members

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

var leasesResource = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// server is an API server for Leases in memory: growing resourceVersions, preconditions, conflicts, and watches that begin
// where they are asked to. Each client of it can be cut off, and its watch be made to lag.
type server struct {
	mu       sync.Mutex
	rv       int
	leases   map[string]*coordinationv1.Lease
	history  []watch.Event // in the order of rv
	clients  map[string]*line
	requests map[string]int // "CLIENT VERB"
}

// line is one client's connection.
type line struct {
	fail    error // answer to every request
	lags    bool  // events wait
	waiting []watch.Event
	events  chan watch.Event // nil: it does not watch
}

func newServer() *server {
	return &server{rv: 10, leases: map[string]*coordinationv1.Lease{}, clients: map[string]*line{}, requests: map[string]int{}}
}

// client returns a client whose requests are counted under name.
func (s *server) client(name string) kubernetes.Interface {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lineLocked(name)
	c := new(fake.Clientset)
	c.AddReactor("*", "leases", func(a ktesting.Action) (bool, runtime.Object, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests[name+" "+a.GetVerb()]++
		switch {
		case l.fail != nil && a.GetVerb() == "list":
			return true, &coordinationv1.LeaseList{}, l.fail
		case l.fail != nil:
			return true, &coordinationv1.Lease{}, l.fail
		}
		out, err := s.serve(a)
		return true, out, err
	})
	c.AddWatchReactor("leases", func(a ktesting.Action) (bool, watch.Interface, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests[name+" watch"]++
		if l.fail != nil {
			return true, nil, l.fail
		}
		from, err := strconv.Atoi(a.(ktesting.WatchAction).GetWatchRestrictions().ResourceVersion)
		if err != nil {
			return true, nil, fmt.Errorf("watch from %w", err)
		}
		l.events, l.waiting = make(chan watch.Event, 10_000), nil
		for _, e := range s.history {
			if rv, _ := strconv.Atoi(e.Object.(*coordinationv1.Lease).ResourceVersion); rv > from {
				s.sendLocked(l, e)
			}
		}
		return true, watch.NewProxyWatcher(l.events), nil
	})
	return c
}

func (s *server) lineLocked(name string) *line {
	l := s.clients[name]
	if l == nil {
		l = new(line)
		s.clients[name] = l
	}
	return l
}

func (s *server) serve(a ktesting.Action) (runtime.Object, error) {
	switch a := a.(type) {
	case ktesting.ListActionImpl:
		list := &coordinationv1.LeaseList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.rv)}}
		for _, name := range slices.Sorted(maps.Keys(s.leases)) {
			list.Items = append(list.Items, *s.leases[name].DeepCopy())
		}
		return list, nil
	case ktesting.GetActionImpl:
		if l := s.leases[a.Name]; l != nil {
			return l.DeepCopy(), nil
		}
		return &coordinationv1.Lease{}, apierrors.NewNotFound(leasesResource, a.Name)
	case ktesting.CreateActionImpl:
		l := a.Object.(*coordinationv1.Lease)
		if s.leases[l.Name] != nil {
			return &coordinationv1.Lease{}, apierrors.NewAlreadyExists(leasesResource, l.Name)
		}
		return s.storeLocked(watch.Added, l), nil
	case ktesting.UpdateActionImpl:
		l := a.Object.(*coordinationv1.Lease)
		have := s.leases[l.Name]
		if have == nil {
			return l, apierrors.NewNotFound(leasesResource, l.Name)
		}
		if have.ResourceVersion != l.ResourceVersion {
			return l, apierrors.NewConflict(leasesResource, l.Name, errors.New("changed"))
		}
		return s.storeLocked(watch.Modified, l), nil
	case ktesting.DeleteActionImpl:
		have, p := s.leases[a.Name], a.DeleteOptions.Preconditions
		if have == nil {
			return &coordinationv1.Lease{}, apierrors.NewNotFound(leasesResource, a.Name)
		}
		if p != nil && (*p.UID != have.UID || *p.ResourceVersion != have.ResourceVersion) {
			return have, apierrors.NewConflict(leasesResource, a.Name, errors.New("precondition"))
		}
		return s.storeLocked(watch.Deleted, have), nil
	}
	return nil, fmt.Errorf("%T is not served", a)
}

func (s *server) storeLocked(kind watch.EventType, l *coordinationv1.Lease) *coordinationv1.Lease {
	s.rv++
	l = l.DeepCopy()
	l.ResourceVersion = strconv.Itoa(s.rv)
	if kind == watch.Deleted {
		delete(s.leases, l.Name)
	} else {
		if l.UID == "" {
			l.UID = types.UID("uid-" + l.ResourceVersion)
		}
		s.leases[l.Name] = l
	}
	e := watch.Event{Type: kind, Object: l}
	s.history = append(s.history, e)
	for _, c := range s.clients {
		if c.events != nil {
			s.sendLocked(c, e)
		}
	}
	return l.DeepCopy()
}

func (s *server) sendLocked(l *line, e watch.Event) {
	if l.lags {
		l.waiting = append(l.waiting, e)
		return
	}
	l.events <- watch.Event{Type: e.Type, Object: e.Object.DeepCopyObject()}
}

// fail makes all requests of a client fail, and ends its watch; nil heals it.
func (s *server) fail(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lineLocked(name)
	l.fail = err
	if err != nil && l.events != nil {
		close(l.events)
		l.events = nil
	}
}

// lag makes a client's watch hold its events back, or bring those that it held.
func (s *server) lag(name string, lags bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.clients[name]
	l.lags = lags
	if !lags {
		for _, e := range l.waiting {
			s.sendLocked(l, e)
		}
		l.waiting = nil
	}
}

func (s *server) get(t *testing.T, name string) *coordinationv1.Lease {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases[name].DeepCopy()
}

// edit changes a Lease as somebody else would; one that is not there is made.
func (s *server) edit(name string, change func(*coordinationv1.Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind, l := watch.Modified, s.leases[name]
	if l == nil {
		kind, l = watch.Added, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: Namespace, Labels: map[string]string{Label: "true"}}}
	}
	l = l.DeepCopy()
	change(l)
	s.storeLocked(kind, l)
}

func (s *server) count(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[request]
}
