package pods

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
)

// keptRecords are in memory, and outlive an agent.
type keptRecords struct {
	mu   sync.Mutex
	kept map[string][]byte
	puts int
	fail error // of all calls
}

func (k *keptRecords) Scan(prefix string, fn func(string, []byte) error) error {
	k.mu.Lock()
	all, fail := maps.Clone(k.kept), k.fail
	k.mu.Unlock()
	for key, b := range all {
		if strings.HasPrefix(key, prefix) {
			if err := fn(key, b); err != nil {
				return err
			}
		}
	}
	return fail
}

func (k *keptRecords) Put(_ context.Context, key string, b []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail == nil {
		k.kept[key] = b
		k.puts++
	}
	return k.fail
}

func (k *keptRecords) Delete(_ context.Context, keys ...string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		delete(k.kept, key)
	}
	return k.fail
}

// refuse makes all calls fail; nil: no longer.
func (k *keptRecords) refuse(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

// privateImage makes app:2 need the password "right", and gives the namespace the secrets right, copy (the same password) and wrong.
func privateImage(w *world) *keptRecords {
	k := &keptRecords{kept: map[string][]byte{}}
	w.stop()
	w.o.ImageRecords = k
	w.rt.mu.Lock()
	w.rt.private = map[string]string{"app:2": "right"}
	w.rt.mu.Unlock()
	secret(w, "right", "right")
	secret(w, "copy", "right")
	secret(w, "wrong", "other")
	w.start()
	return k
}

func secret(w *world, name, password string) {
	d := secretDesired(w.t, map[string]string{name: `.dockerconfigjson={"auths":{"docker.io":{"username":"u","password":"` + password + `"}}}`})
	o, _ := d.Get(wire.Key("secrets/default/" + name))
	w.desired.put(o)
}

// with is a pod that wants app:2 with a secret; "" has none.
func with(w *world, name, secret, policy string) wire.Key {
	key := wire.Key("pods/default/" + name + "/" + name)
	refs := ""
	if secret != "" {
		refs = `"imagePullSecrets":[{"name":"` + secret + `"}],`
	}
	w.put(key, `{"metadata":{},"spec":{`+refs+`"containers":[{"name":"c","image":"app:2","imagePullPolicy":"`+policy+`"}]}}`)
	return key
}

// state is a container's waiting reason, or running.
func (w *world) state(key wire.Key) string {
	w.t.Helper()
	s := w.report(key).Status
	if s == nil || len(s.ContainerStatuses) == 0 {
		return "nothing"
	}
	if wait := s.ContainerStatuses[0].State.Waiting; wait != nil {
		return wait.Reason
	}
	return strings.ToLower(s.Phase)
}

func (w *world) expect(key wire.Key, want string) {
	w.t.Helper()
	if got := w.state(key); got != want {
		w.t.Errorf("%s: %s, want %s", key.Name(), got, want)
	}
}

// TestPrivateImageOnTheDisk: a pod uses what another pod's credentials have opened only if it has the same, after a restart, too.
func TestPrivateImageOnTheDisk(t *testing.T) {
	simulate(t, func(w *world) {
		k := privateImage(w)
		first := with(w, "first", "right", "IfNotPresent")
		w.settle(2 * time.Second)
		w.expect(first, "running")
		check := func(round string) {
			w.rt.mu.Lock()
			w.rt.remote["app:2"] = false // the gateway is cut off
			before := w.rt.calls["PullImage"]
			w.rt.mu.Unlock()
			same, copied := with(w, "same"+round, "right", "IfNotPresent"), with(w, "copied"+round, "copy", "Never")
			none, other, never := with(w, "none"+round, "", "IfNotPresent"), with(w, "other"+round, "wrong", "IfNotPresent"), with(w, "never"+round, "", "Never")
			w.settle(2 * time.Second)
			w.expect(same, "running")
			w.expect(copied, "running")
			w.expect(none, "ImagePullBackOff")
			w.expect(other, "ImagePullBackOff")
			w.expect(never, "ErrImageNeverPull")
			if n := w.rt.called("PullImage") - before; n != 2 {
				t.Errorf("the registry was asked %d times, twice was due", n)
			}
			for _, key := range []wire.Key{same, copied, none, other, never} {
				w.desired.remove(key)
			}
			w.settle(time.Minute)
		}
		check("1")
		puts := k.puts
		w.stop()
		w.start()
		w.settle(2 * time.Second)
		check("2")
		if k.puts > puts+2 { // the two pulls that were refused
			t.Errorf("%d records were written, though nothing is new", k.puts-puts)
		}
		secret(w, "right", "rotated") // the secret is still the one that opened it
		rotated := with(w, "rotated", "right", "IfNotPresent")
		w.settle(2 * time.Second)
		w.expect(rotated, "running")
		if strings.Contains(string(k.kept["image/sha256:app:2"]), "right\"") && strings.Contains(string(k.kept["image/sha256:app:2"]), "password") {
			t.Errorf("a password is kept: %s", k.kept["image/sha256:app:2"])
		}
		// A restart of the container asks nobody, whatever became of the secret.
		w.desired.put(wire.Object{Key: "secrets/default/right", Absent: true})
		w.rt.mu.Lock()
		for _, c := range w.rt.containers {
			c.ends = time.Now()
		}
		w.rt.mu.Unlock()
		w.settle(time.Minute)
		w.expect(first, "running")
	})
}

// TestPreloadedImage is everybody's, unless the policy says otherwise; what was pulled without credentials is in any case.
func TestPreloadedImage(t *testing.T) {
	for policy, want := range map[string]string{CheckPulled: "running", CheckNone: "running", CheckAll: "ImagePullBackOff"} {
		simulate(t, func(w *world) {
			w.stop()
			w.o.ImageCheck = policy
			w.start()
			w.put(podKey, strings.Replace(simplePod, `"image":"app:1"`, `"image":"app:1","imagePullPolicy":"IfNotPresent"`, 1))
			w.settle(2 * time.Second)
			w.expect(podKey, want)
			a, b := with(w, "a", "", "IfNotPresent"), with(w, "b", "", "Never")
			w.settle(30 * time.Second)
			w.expect(a, "running")
			w.expect(b, "running")
			if n := w.rt.called("PullImage"); policy != CheckAll && n != 1 {
				t.Errorf("%s: %d pulls", policy, n)
			}
		})
	}
}

// TestPowerFailsDuringAPull: the image that is found then is nobody's until somebody has shown his credentials.
func TestPowerFailsDuringAPull(t *testing.T) {
	simulate(t, func(w *world) {
		k := privateImage(w)
		w.settle(time.Second)
		if err := w.m.access.begin(t.Context(), "app:2"); err != nil {
			t.Fatal(err)
		}
		if err := w.m.access.begin(t.Context(), "gone:1"); err != nil {
			t.Fatal(err)
		}
		w.stop()
		w.rt.images["app:2"] = &cri.Image{ID: "sha256:app:2"}
		w.start()
		none := with(w, "none", "", "IfNotPresent")
		right := with(w, "right", "right", "IfNotPresent")
		w.settle(2 * time.Second)
		w.expect(none, "ImagePullBackOff")
		w.expect(right, "running")
		w.settle(10 * time.Minute)
		for key, b := range k.kept {
			if strings.HasPrefix(key, intentPrefix) {
				t.Errorf("the note of a pull stays: %s", b)
			}
		}
		w.desired.remove("pods/default/none/none")
		w.desired.remove("pods/default/right/right")
		w.settle(time.Minute)
		w.rt.mu.Lock()
		clear(w.rt.images)
		w.rt.mu.Unlock()
		w.settle(10 * time.Minute)
		if len(k.kept) != 0 {
			t.Errorf("the image is gone, and its records stay: %q", k.kept)
		}
	})
}

// TestRecordsThatCannotBeKept: without a note no pull with credentials begins; without a record, pods ask the registry after a restart.
func TestRecordsThatCannotBeKept(t *testing.T) {
	simulate(t, func(w *world) {
		k := privateImage(w)
		k.refuse(errors.New("no space left on device"))
		first := with(w, "first", "right", "IfNotPresent")
		w.settle(2 * time.Second)
		w.expect(first, "ImagePullBackOff")
		if e := w.lastEvent("Failed"); e == nil || !strings.Contains(e.message, "no space left") {
			t.Errorf("event %+v", e)
		}
		k.refuse(nil)
		w.settle(time.Minute)
		w.expect(first, "running")
		w.stop()
		k.kept["image/sha256:app:2"] = []byte(`{"docker.io/libr`) // damaged
		w.start()
		none, again := with(w, "none", "", "IfNotPresent"), with(w, "again", "right", "IfNotPresent")
		w.settle(2 * time.Second)
		w.expect(none, "ImagePullBackOff")
		w.expect(again, "running")
		w.expect(first, "running")
	})
}

// TestNewCredentialsAreTriedAtOnce: who corrects a secret need not wait for the back-off.
func TestNewCredentialsAreTriedAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		privateImage(w)
		w.desired.put(wire.Object{Key: "secrets/default/late", Absent: true})
		late, wrong := with(w, "late", "late", "IfNotPresent"), with(w, "wrong", "wrong", "IfNotPresent")
		w.settle(20 * time.Minute)
		w.expect(late, "ImagePullBackOff")
		w.expect(wrong, "ImagePullBackOff")
		if e := w.event("FailedToRetrieveImagePullSecret"); e == nil || !strings.Contains(e.message, "(late)") {
			t.Errorf("event %+v", e)
		}
		secret(w, "late", "right")
		secret(w, "wrong", "right")
		w.settle(2 * time.Second)
		w.expect(late, "running")
		w.expect(wrong, "running")
	})
}

func TestSecretsOfAnImageAreBounded(t *testing.T) {
	var h access
	for i := range 2 * maxSecrets {
		c := passwords(strconv.Itoa(i))[0]
		c.secret = secretName{Name: strconv.Itoa(i)}
		if h.add(c) != (i < maxSecrets) {
			t.Errorf("%d", i)
		}
	}
	c := passwords("new")[0]
	c.secret = secretName{Name: "7"}
	if !h.add(c) || h.add(c) || len(h.Secrets) != maxSecrets || !h.opens(c) {
		t.Error("a password that has changed is not noted once")
	}
	if !h.add(credential{}) || !h.Everybody || h.Secrets != nil || h.add(c) {
		t.Errorf("%+v", h)
	}
}
