package tickets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

// cluster returns a fake API server with the empty Secret, strict about resourceVersions as the real one is.
func cluster(t *testing.T) *fake.Clientset {
	t.Helper()
	c := fake.NewClientset(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: Secret, Namespace: Namespace, ResourceVersion: "1"}})
	var mu sync.Mutex
	secrets := corev1.SchemeGroupVersion.WithResource("secrets")
	c.PrependReactor("update", "secrets", func(a ktesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		next := a.(ktesting.UpdateAction).GetObject().(*corev1.Secret).DeepCopy()
		have, err := c.Tracker().Get(secrets, next.Namespace, next.Name)
		if err != nil {
			return true, nil, err
		}
		if rv := have.(*corev1.Secret).ResourceVersion; rv != next.ResourceVersion {
			return true, nil, apierrors.NewConflict(secrets.GroupResource(), next.Name, fmt.Errorf("is at %q", rv))
		}
		n, _ := strconv.Atoi(next.ResourceVersion)
		next.ResourceVersion = strconv.Itoa(n + 1)
		return true, next, c.Tracker().Update(secrets, next, next.Namespace)
	})
	return c
}

// replica is a relay's Keys with a clock.
type replica struct {
	*Keys
	now     time.Time
	applied [][][32]byte
}

func newReplica(c *fake.Clientset, now time.Time) *replica {
	r := &replica{now: now}
	r.Keys = New(Options{Client: c, Now: func() time.Time { return r.now }, Apply: func(k [][32]byte) { r.applied = append(r.applied, k) }})
	return r
}

func (r *replica) at(t *testing.T, now time.Time) [][32]byte {
	t.Helper()
	r.now = now
	if err := r.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r.Current()
}

// TestRotation follows two replicas for two days: both know each key before either seals with it, and old ones go.
func TestRotation(t *testing.T) {
	c, begin := cluster(t), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b := newReplica(c, begin), newReplica(c, begin)
	first := a.at(t, begin)
	if got := b.at(t, begin); len(first) != 1 || !slices.Equal(got, first) {
		t.Fatalf("the replicas begin with %d and %d keys, want the same one", len(first), len(got))
	}
	known := map[[32]byte]bool{}
	sealed := map[[32]byte]bool{}
	for now := begin; now.Before(begin.Add(48 * time.Hour)); now = now.Add(interval) {
		ka := a.at(t, now)
		if !slices.Contains(b.Current(), ka[0]) {
			t.Fatalf("after %v one replica seals with a key that the other cannot open", now.Sub(begin))
		}
		kb := b.at(t, now.Add(interval/2))
		if !slices.Contains(ka, kb[0]) || len(ka) > Keep || len(kb) > Keep {
			t.Fatalf("after %v: %d and %d keys", now.Sub(begin), len(ka), len(kb))
		}
		sealed[ka[0]] = true
		for _, k := range ka {
			known[k] = true
		}
	}
	if len(known) != 4 || len(sealed) != 4 {
		t.Errorf("in two days %d keys were known and %d sealed, want 4", len(known), len(sealed))
	}
	if slices.Contains(a.Current(), first[0]) {
		t.Error("the first key still opens tickets after two days")
	}
	if n := len(a.applied); n > 9 {
		t.Errorf("applied %d times, want only when something changed", n)
	}
}

// TestRotatedAtOnce lets a second replica write between the reading and the writing of the first.
func TestRotatedAtOnce(t *testing.T) {
	c, begin := cluster(t), time.Now()
	a, b := newReplica(c, begin), newReplica(c, begin)
	stale, err := c.CoreV1().Secrets(Namespace).Get(t.Context(), Secret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := b.at(t, begin)
	keys, err := a.rotate(t.Context(), stale, nil, begin)
	if err != nil {
		t.Fatal(err)
	}
	if got := order(keys, begin); len(got) != 1 || !slices.Equal(got, want) {
		t.Errorf("two that rotate at once have %d keys and %d, or not the same", len(got), len(want))
	}
}

func TestDamagedSecret(t *testing.T) {
	for _, text := range []string{"{", "[{}]", `[{"created":"2030-01-01T00:00:00Z","key":"AAAA"}]`, strings.Repeat(" ", maxSecret+1)} {
		c := cluster(t)
		s, err := c.CoreV1().Secrets(Namespace).Get(t.Context(), Secret, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.Data = map[string][]byte{field: []byte(text)}
		if _, err := c.CoreV1().Secrets(Namespace).Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := newReplica(c, time.Now()).at(t, time.Now()); len(got) != 1 {
			t.Errorf("%.20q: %d keys", text, len(got))
		}
	}
}

// TestNoSecret goes on without, says so once, and recovers.
func TestNoSecret(t *testing.T) {
	c := cluster(t)
	if err := c.CoreV1().Secrets(Namespace).Delete(t.Context(), Secret, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r := newReplica(c, time.Now())
	var log bytes.Buffer
	r.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
	for range 5 {
		err := r.refresh(t.Context())
		if err == nil || !strings.Contains(err.Error(), "skerryctl init") {
			t.Errorf("error is %v", err)
		}
		r.note(t.Context(), err)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || len(r.applied) != 0 {
		t.Errorf("%d warnings, %d times applied:\n%s", n, len(r.applied), &log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

// TestWriteRefused keeps the keys that there are.
func TestWriteRefused(t *testing.T) {
	c, begin := cluster(t), time.Now()
	r := newReplica(c, begin)
	have := r.at(t, begin)
	c.PrependReactor("update", "secrets", func(ktesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("secrets"), Secret, errors.New("no"))
	})
	r.now = begin.Add(13 * time.Hour)
	if err := r.refresh(t.Context()); err == nil || !slices.Equal(r.Current(), have) {
		t.Errorf("refresh = %v, %d keys", err, len(r.Current()))
	}
}

func FuzzParse(f *testing.F) {
	good, _ := json.Marshal([]key{{Created: time.Unix(1e9, 0), Key: make([]byte, 32)}})
	f.Add(good)
	f.Add([]byte("[{}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parse(b)
		if err == nil && (len(keys) > Keep || len(order(keys, time.Now())) != len(keys)) {
			t.Errorf("%d keys", len(keys))
		}
	})
}

// TestSecretGoesAway while relays run: they go on with what they have, but not for ever, and share again once it is back.
func TestSecretGoesAway(t *testing.T) {
	c, begin := cluster(t), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	a := newReplica(c, begin)
	shared := a.at(t, begin)
	secrets := c.CoreV1().Secrets(Namespace)
	if err := secrets.Delete(t.Context(), Secret, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	look := func(after time.Duration) [][32]byte {
		t.Helper()
		a.now = begin.Add(after)
		if err := a.refresh(t.Context()); err == nil {
			t.Fatal("no error without the Secret")
		}
		a.alone(a.now)
		return a.Current()
	}
	if got := look(RotateAfter); !slices.Equal(got, shared) {
		t.Error("the keys change at once")
	}
	own := look(RotateAfter + patience)
	if len(own) != 2 || own[0] == shared[0] || own[1] != shared[0] {
		t.Errorf("overdue by an hour: %d keys, the old one still seals: %v", len(own), own[0] == shared[0])
	}
	if got := look(RotateAfter + patience + time.Minute); !slices.Equal(got, own) {
		t.Error("it changes with each look")
	}
	for i := 2; i < 6; i++ {
		look(time.Duration(i) * (RotateAfter + patience))
	}
	if got := a.Current(); len(got) != Keep || slices.Contains(got, shared[0]) {
		t.Errorf("after days there are %d keys, the first among them: %v", len(got), slices.Contains(got, shared[0]))
	}
	if _, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: Secret, Namespace: Namespace, ResourceVersion: "1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b := newReplica(c, a.now)
	if got := b.at(t, a.now); !slices.Equal(got, a.at(t, a.now)) {
		t.Error("they do not share what is in the Secret that came back")
	}
}

// TestForget: what others may have read opens nothing once relays have looked again.
func TestForget(t *testing.T) {
	c, begin := cluster(t), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	a := newReplica(c, begin)
	stolen := a.at(t, begin)
	if err := Forget(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := a.at(t, begin.Add(time.Minute)); len(got) != 1 || got[0] == stolen[0] {
		t.Errorf("%d keys, the stolen one among them: %v", len(got), slices.Contains(got, stolen[0]))
	}
}
