package kube

import (
	"context"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire"
)

// absences knows of references that do not exist as of which revision that is certain. The cache of their kind says so up to what
// it has seen, which is less than the pod's revision if nothing of the kind has changed since; bookmarks come once a minute. Until
// then a pod could not go, so the API server is asked about the one object: a GET without a resourceVersion is answered by a
// quorum, so no such object then means none at any revision that was known when it was asked.
type absences struct {
	mu    sync.Mutex
	keys  map[wire.Key]*absence
	queue chan wire.Key // of those that wait to be asked about
}

type absence struct {
	certain uint64 // it did not exist at this revision
	wanted  uint64 // of what refers to it; asked about if it is higher
	asked   bool   // it is in the queue, or being asked about
	notYet  time.Time
}

const (
	absencesWaiting = 1024        // beyond that the next bookmark has to do
	absencePause    = time.Second // between two questions about one object
	absenceTimeout  = 10 * time.Second
)

func newAbsences() *absences {
	return &absences{keys: make(map[wire.Key]*absence), queue: make(chan wire.Key, absencesWaiting)}
}

func (a *absences) confirmed(key wire.Key) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.keys[key]; e != nil {
		return e.certain
	}
	return 0
}

// forget is called when the object appears, or when nothing refers to it any more.
func (a *absences) forget(key wire.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.keys, key)
}

// ConfirmAbsent implements the session's AbsenceConfirmer: it has the API server asked whether the object of key is really absent
// at revision, and tells those who may see it when the answer is there. It does not block.
func (x *Index) ConfirmAbsent(key wire.Key, revision uint64) {
	a := x.absent
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.keys[key]
	if e == nil {
		e = new(absence)
		a.keys[key] = e
	}
	e.wanted = max(e.wanted, revision)
	if e.asked || e.certain >= e.wanted || time.Now().Before(e.notYet) {
		return
	}
	select {
	case a.queue <- key:
		e.asked = true
	default:
	}
}

// confirmer asks about one object after the other until ctx ends.
func (x *Index) confirmer(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case key := <-x.absent.queue:
			x.confirm(ctx, key)
		}
	}
}

func (x *Index) confirm(ctx context.Context, key wire.Key) {
	a := x.absent
	a.mu.Lock()
	e := a.keys[key]
	if e == nil { // it has appeared, or nobody needs it
		a.mu.Unlock()
		return
	}
	wanted := e.wanted
	a.mu.Unlock()

	res, _ := resourceOf(key.Kind())
	asking, cancel := context.WithTimeout(ctx, absenceTimeout)
	_, err := x.opts.Client.Resource(res.gvr).Namespace(key.Namespace()).Get(asking, key.Name(), metav1.GetOptions{})
	cancel()
	gone := apierrors.IsNotFound(err)
	if err != nil && !gone && ctx.Err() == nil {
		x.opts.Log.Warn("cannot find out whether an object that a pod refers to exists; asking again, and the pod waits",
			slog.String("object", string(key)), slog.Any("error", err))
	}

	a.mu.Lock()
	e.asked = false
	e.notYet = time.Now().Add(absencePause)
	if gone {
		e.certain = wanted
	}
	known := a.keys[key] == e
	a.mu.Unlock()
	if !gone || !known {
		return // if it exists, the watch brings it
	}
	var c changes
	x.mu.RLock()
	x.collectLocked(key, nil, &c)
	x.mu.RUnlock()
	x.tell(c)
}
