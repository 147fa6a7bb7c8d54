package pods

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// fakeTokens has the tokens that a test gives it.
type fakeTokens struct {
	mu      sync.Mutex
	token   string
	expires time.Time
	err     error
	asked   []string
	forgot  []string
	news    chan struct{}
	changed []string
}

func (f *fakeTokens) Token(_ context.Context, pod wire.Key, account, audience string, seconds int64) (string, time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.Join([]string{string(pod), account, audience, time.Duration(seconds * int64(time.Second)).String()}, " "))
	if f.err != nil {
		return "", time.Time{}, f.err
	}
	return f.token, f.expires, nil
}

func (f *fakeTokens) Forget(_ context.Context, uid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgot = append(f.forgot, uid)
}

func (f *fakeTokens) Changed() <-chan struct{} { return f.news }

func (f *fakeTokens) Take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	uids := f.changed
	f.changed = nil
	return uids
}

// set gives a pod a token, or a reason why it has none.
func (f *fakeTokens) set(token string, expires time.Time, err error) {
	f.mu.Lock()
	f.token, f.expires, f.err = token, expires, err
	f.changed = []string{"u1"}
	f.mu.Unlock()
	f.news <- struct{}{}
}

// ordinaryPod is what an API server makes of a pod that says nothing of tokens.
const ordinaryPod = `{"metadata":{},"spec":{"serviceAccountName":"web","containers":[{"name":"c","image":"app:1",
	"volumeMounts":[{"name":"kube-api-access-x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","readOnly":true}]}],
	"volumes":[{"name":"kube-api-access-x","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},
	{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},
	{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}]}}]}}`

// withTokens runs a test with tokens.
func withTokens(t *testing.T, test func(w *world, tokens *fakeTokens, file string)) {
	t.Helper()
	simulate(t, func(w *world) {
		w.stop()
		f := &fakeTokens{news: make(chan struct{}, 1), err: errors.New("this gateway is not connected to a relay")}
		w.o.Tokens = f
		w.start()
		w.put("configmaps/default/kube-root-ca.crt", `{"metadata":{},"data":{"ca.crt":"CA"}}`)
		test(w, f, filepath.Join(w.o.Dir, "u1", volumesFolder, pluginProjected, "kube-api-access-x"))
	})
}

func TestOrdinaryPodHasItsToken(t *testing.T) {
	withTokens(t, func(w *world, tokens *fakeTokens, dir string) {
		w.apply(ordinaryPod)
		w.settle(time.Second)
		got := w.status().ContainerStatuses[0].State.Waiting
		if got == nil || got.Reason != "ContainerCreating" || w.status().Reason != "" ||
			!strings.Contains(got.Message, `the token of service account "web" has not arrived yet: this gateway is not connected to a relay`) {
			t.Fatalf("waiting %+v", got)
		}
		w.settle(10 * time.Minute)
		tokens.set("first", time.Now().Add(time.Hour), nil)
		w.settle(2 * time.Second) // and not the minute of its back-off
		if w.status().Phase != phaseRunning {
			t.Fatalf("status %+v", w.status())
		}
		for name, want := range map[string]string{"token": "first", "ca.crt": "CA", "namespace": "default"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "token")); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%v, %v", info, err)
		}
		if _, memory := w.o.Mount.(*fakeMounter).dirs[dir]; !memory {
			t.Error("the token is on the flash")
		}
		if last := tokens.asked[len(tokens.asked)-1]; last != "pods/default/web/u1 web  1h0m7s" {
			t.Errorf("asked for %q", last)
		}

		tokens.set("second", time.Now().Add(time.Hour), nil)
		w.settle(time.Second)
		if b, err := os.ReadFile(filepath.Join(dir, "token")); err != nil || string(b) != "second" {
			t.Errorf("the renewed token is not there: %q, %v", b, err)
		}
		w.desired.remove(podKey)
		w.settle(time.Minute)
		if len(tokens.forgot) == 0 || tokens.forgot[0] != "u1" {
			t.Errorf("forgotten %v", tokens.forgot)
		}
	})
}

// TestTokenThatExpires stays, and that is said once.
func TestTokenThatExpires(t *testing.T) {
	withTokens(t, func(w *world, tokens *fakeTokens, dir string) {
		tokens.set("old", time.Now().Add(-time.Hour), nil)
		w.apply(ordinaryPod)
		w.settle(time.Second)
		for range 5 { // longer than events of the same text are held back
			tokens.set("old", tokens.expires, nil)
			w.settle(6 * time.Minute)
		}
		if w.status().Phase != phaseRunning {
			t.Fatalf("status %+v", w.status())
		}
		if b, err := os.ReadFile(filepath.Join(dir, "token")); err != nil || string(b) != "old" {
			t.Errorf("%q, %v", b, err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		said := 0
		for _, e := range w.events {
			if e.reason == "TokenExpired" && strings.Contains(e.message, `"web"`) {
				said++
			}
		}
		if said != 1 {
			t.Errorf("said %d times", said)
		}
	})
}

// TestTokenOwner: modes and owners are the kubelet's.
func TestTokenOwner(t *testing.T) {
	const volumes = `"volumes":[{"name":"t","projected":{"defaultMode":288,"sources":[{"serviceAccountToken":{"path":"dir/token","audience":"vault"}}]}}]}`
	container := func(name, security string) string {
		return `{"name":"` + name + `","image":"a","securityContext":` + security + `}`
	}
	none, u7, u8 := container("a", `{}`), container("b", `{"runAsUser":7}`), container("c", `{"runAsUser":8}`)
	for name, c := range map[string]struct {
		spec     string
		mode     os.FileMode
		uid, gid uint32
	}{
		"nobody is known":             {`{"containers":[` + none + `],`, 0o440, 0, 0},
		"one user":                    {`{"containers":[` + u7 + `],`, 0o600, 7, 0},
		"one user of the pod":         {`{"securityContext":{"runAsUser":9},"containers":[` + none + `],`, 0o600, 9, 0},
		"two users":                   {`{"containers":[` + u7 + `,` + u8 + `],`, 0o440, 0, 0},
		"an init container differs":   {`{"initContainers":[` + u8 + `],"containers":[` + u7 + `],`, 0o440, 0, 0},
		"a group":                     {`{"securityContext":{"fsGroup":5},"containers":[` + none + `],`, 0o640, 0, 5},
		"a group and one user":        {`{"securityContext":{"fsGroup":5,"runAsUser":9},"containers":[` + none + `],`, 0o640, 9, 5},
		"one user goes before pod's":  {`{"securityContext":{"runAsUser":9},"containers":[` + u7 + `],`, 0o600, 7, 0},
		"some have the pod's user":    {`{"securityContext":{"runAsUser":9},"containers":[` + none + `,` + u7 + `],`, 0o440, 0, 0},
		"the superuser is a user too": {`{"securityContext":{"runAsUser":0},"containers":[` + none + `],`, 0o600, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := decode(t, c.spec+volumes)
			v, _ := testVolumes(t, d)
			v.token = func(s *corev1.TokenProjection) (string, error) { return "for " + s.Audience, nil }
			paths, err := v.prepare(&d.pod.Spec)
			if err != nil {
				if os.Geteuid() != 0 && errors.Is(err, os.ErrPermission) {
					return // files cannot be given away
				}
				t.Fatal(err)
			}
			file := filepath.Join(paths["t"], "dir/token")
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			st := info.Sys().(*syscall.Stat_t)
			if info.Mode().Perm() != c.mode || os.Geteuid() == 0 && (st.Uid != c.uid || st.Gid != c.gid) {
				t.Errorf("mode %o of %d:%d, want %o of %d:%d", info.Mode().Perm(), st.Uid, st.Gid, c.mode, c.uid, c.gid)
			}
			if b, err := os.ReadFile(file); err != nil || string(b) != "for vault" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}
