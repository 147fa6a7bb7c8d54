//go:build integration

package registries_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/images"
)

const failed = "ErrImagePull ImagePullBackOff"

// row is a pod, and what becomes of it.
type row struct {
	name string
	want
	waits string   // reasons, one of which the container waits with; empty: it runs
	says  []string // parts of the message
	event string   // reason of an event that there is
}

// TestMain lets more tests wait at a time than there are processors: that is all that they do.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestRegistries(t *testing.T) {
	w := start(t)
	w.secrets(t)
	t.Run("pulls", func(t *testing.T) {
		w.faults(t)
		t.Run("access", func(t *testing.T) { t.Parallel(); w.onTheDisk(t) })
		t.Run("policies", func(t *testing.T) { t.Parallel(); w.policies(t) })
		t.Run("late-secret", func(t *testing.T) { t.Parallel(); w.late(t) })
		t.Run("rotated-secret", func(t *testing.T) { t.Parallel(); w.rotated(t) })
		t.Run("mirror", func(t *testing.T) { t.Parallel(); w.mirror(t) })
		for _, r := range w.rows(t) {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				w.pod(t, r.name, r.want)
				if r.waits == "" {
					w.runs(t, r.name)
				} else {
					w.waits(t, r.name, r.waits, r.says...)
				}
				if r.event != "" {
					w.event(t, r.name, r.event, "")
				}
			})
		}
	})
	t.Run("offline", func(t *testing.T) { w.offline(t) })
}

// secrets makes what the rows name.
func (w *world) secrets(t *testing.T) {
	right, wrong := entry(login["plant"]), entry("wrong")
	basic, bearer := w.basic.Addr(), w.bearer.Addr()
	glob := basic[:strings.LastIndexByte(basic, '.')] + ".*" + basic[strings.LastIndexByte(basic, ':'):]
	w.secret(t, "right", map[string]map[string]string{basic: right, "https://" + bearer: right})
	w.secret(t, "wrong", map[string]map[string]string{basic: wrong, bearer: wrong})
	w.secret(t, "glob", map[string]map[string]string{glob: right})
	w.secret(t, "folder", map[string]map[string]string{basic + "/team": right, basic: wrong})
	w.secretOf(t, "legacy", corev1.SecretTypeDockercfg, corev1.DockerConfigKey, map[string]any{bearer: right})
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "puller"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "right"}}}
	if _, err := w.cluster.Core.CoreV1().ServiceAccounts(ns).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) rows(t *testing.T) []row {
	for _, tag := range []string{"open:1", "a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1", "team/app:1", "other/app:1", "h:1", "i:1", "pinned:1"} {
		w.push(t, tag)
	}
	digest, err := w.sample.Digest()
	if err != nil {
		t.Fatal(err)
	}
	absent := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	basic, bearer, open := w.basic.Ref, w.bearer.Ref, w.trusted.Ref
	return []row{
		{name: "own-ca", want: want{image: open("open:1")}},
		{name: "unknown-ca", want: want{image: w.unknown.Ref("open:1")}, waits: failed, event: "Failed",
			says: []string{"x509: certificate signed by unknown authority", "does not trust the certificate of " + w.unknown.Addr(), "certs.d/" + w.unknown.Addr() + "/hosts.toml"}},
		{name: "basic", want: want{image: basic("a:1"), secrets: []string{"right"}}},
		{name: "basic-without", want: want{image: basic("b:1")}, waits: failed, says: []string{"401 Unauthorized", "the pod has no credentials for " + w.basic.Addr(), "imagePullSecret"}},
		{name: "basic-wrong", want: want{image: basic("c:1"), secrets: []string{"wrong"}}, waits: failed, says: []string{"401 Unauthorized", "refused the credentials of wrong"}},
		{name: "basic-wrong-first", want: want{image: basic("d:1"), secrets: []string{"wrong", "right"}}},
		{name: "basic-glob", want: want{image: basic("e:1"), secrets: []string{"glob"}}},
		{name: "basic-folder", want: want{image: basic("team/app:1"), secrets: []string{"folder"}}},
		{name: "basic-other-folder", want: want{image: basic("other/app:1"), secrets: []string{"folder"}}, waits: failed, says: []string{"refused the credentials of folder"}},
		{name: "basic-account", want: want{image: basic("f:1"), account: "puller"}},
		{name: "missing-secret", want: want{image: basic("g:1"), secrets: []string{"nobody-made-it"}}, waits: failed, says: []string{"make nobody-made-it"}, event: "FailedToRetrieveImagePullSecret"},
		{name: "bearer", want: want{image: bearer("h:1"), secrets: []string{"right"}}},
		{name: "bearer-legacy", want: want{image: bearer("i:1"), secrets: []string{"wrong", "legacy"}}},
		{name: "bearer-without", want: want{image: bearer("b:1")}, waits: failed, says: []string{"401 Unauthorized", "the pod has no credentials"}},
		{name: "digest", want: want{image: open("pinned@" + digest.String())}},
		{name: "digest-and-tag", want: want{image: open("pinned:ignored@" + digest.String())}},
		{name: "wrong-digest", want: want{image: open("pinned@" + absent)}, waits: failed, says: []string{"not found"}, event: "Failed"},
		{name: "no-such-tag", want: want{image: open("pinned:2")}, waits: failed, says: []string{"not found"}},
		{name: "never", want: want{image: open("never:1"), policy: corev1.PullNever}, waits: "ErrImageNeverPull", says: []string{"is not present with pull policy of Never"}, event: "ErrImageNeverPull"},
		{name: "pulled-ahead", want: want{image: open("ahead:1"), policy: corev1.PullNever}},
		{name: "bad-name", want: want{image: w.trusted.Addr() + "/UPPER:1"}, waits: "InvalidImageName", says: []string{"couldn't parse image name", "lower case"}, event: "InspectFailed"},
		{name: "nobody-there", want: want{image: w.ip + ":1/app:1"}, waits: failed, says: []string{"connection refused", "cannot be reached from this gateway"}},
	}
}

// policies: IfNotPresent asks the registry once, Always at each start.
func (w *world) policies(t *testing.T) {
	w.push(t, "once:1")
	w.push(t, "each:1")
	for _, name := range []string{"once-1", "once-2"} {
		w.pod(t, name, want{image: w.trusted.Ref("once:1")})
		w.runs(t, name)
	}
	first := w.trusted.Requests("once:1")
	w.pod(t, "once-3", want{image: w.trusted.Ref("once:1"), policy: corev1.PullNever})
	w.runs(t, "once-3")
	w.event(t, "once-2", "Pulled", "already present on machine and can be accessed by the pod")
	if n := w.trusted.Requests("once:1"); n != first || first == 0 {
		t.Errorf("IfNotPresent: the registry was asked %d times for the first pods, then %d", first, n)
	}
	w.pod(t, "each-1", want{image: w.trusted.Ref("each:1"), policy: corev1.PullAlways})
	w.runs(t, "each-1")
	first = w.trusted.Requests("each:1")
	w.pod(t, "each-2", want{image: w.trusted.Ref("each:1"), policy: corev1.PullAlways})
	w.runs(t, "each-2")
	if n := w.trusted.Requests("each:1"); n <= first {
		t.Errorf("Always: the registry was asked %d times for the first pod, %d for both", first, n)
	}
}

// onTheDisk: an image that one pod's secret has opened is not everybody's.
func (w *world) onTheDisk(t *testing.T) {
	w.push(t, "secret:1")
	image := w.basic.Ref("secret:1")
	w.pod(t, "owner", want{image: image, secrets: []string{"right"}})
	w.runs(t, "owner")
	asked := w.basic.Requests("secret:1")
	w.pod(t, "same", want{image: image, secrets: []string{"right"}})
	w.pod(t, "copy", want{image: image, secrets: []string{"glob"}, policy: corev1.PullNever}) // the same user and password
	w.runs(t, "same")
	w.runs(t, "copy")
	if n := w.basic.Requests("secret:1"); n != asked {
		t.Errorf("the registry was asked %d times for pods whose credentials are known", n-asked)
	}
	w.pod(t, "thief", want{image: image})
	w.pod(t, "liar", want{image: image, secrets: []string{"wrong"}})
	w.pod(t, "sneak", want{image: image, policy: corev1.PullNever})
	w.waits(t, "thief", failed, "the pod has no credentials")
	w.waits(t, "liar", failed, "refused the credentials of wrong")
	w.waits(t, "sneak", "ErrImageNeverPull", "is not present with pull policy of Never")
}

// late: the secret comes after the pod.
func (w *world) late(t *testing.T) {
	w.push(t, "late:1")
	w.pod(t, "late", want{image: w.basic.Ref("late:1"), secrets: []string{"late"}})
	w.waits(t, "late", "ImagePullBackOff", "Back-off pulling image", "ErrImagePull")
	w.secret(t, "late", map[string]map[string]string{w.basic.Addr(): entry(login["plant"])})
	w.runs(t, "late")
}

// rotated: the password in the secret is corrected.
func (w *world) rotated(t *testing.T) {
	w.push(t, "rotated:1")
	w.secret(t, "rotated", map[string]map[string]string{w.basic.Addr(): entry("last year's")})
	w.pod(t, "rotated", want{image: w.basic.Ref("rotated:1"), secrets: []string{"rotated"}})
	w.waits(t, "rotated", "ImagePullBackOff")
	w.secret(t, "rotated", map[string]map[string]string{w.basic.Addr(): entry(login["plant"])})
	w.runs(t, "rotated")
}

// mirror: docker.io cannot be reached here; the plant's mirror is asked first. If the mirror is down, the registry itself is asked.
func (w *world) mirror(t *testing.T) {
	w.push(t, "plant/mirrored:1")
	w.push(t, "upstream:1")
	w.configure(t, "docker.io", "docker.io", map[string]string{"mirror.example.org:5000": w.trusted.Addr()})
	w.pod(t, "mirrored", want{image: "plant/mirrored:1"})
	w.runs(t, "mirrored")
	if w.trusted.Requests("plant/mirrored:1") == 0 {
		t.Error("the mirror was not asked")
	}
	// A mirror that wants a login is shown the one for the registry that it stands for, which nobody can reach.
	const behind = "registry.example.invalid"
	w.push(t, "behind:1")
	w.configure(t, "docker.io", behind, map[string]string{"mirror.example.org:5000": w.basic.Addr(), "registry-1.docker.io": behind})
	w.secret(t, "behind", map[string]map[string]string{behind: entry(login["plant"])})
	w.pod(t, "mirror-login", want{image: behind + "/behind:1", secrets: []string{"behind"}})
	w.runs(t, "mirror-login")
	up, err := w.Images.Serve(images.Front{IP: w.ip, CA: w.ca})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	w.configure(t, "docker.io", up.Addr(), map[string]string{"mirror.example.org:5000": w.ip + ":1", "registry-1.docker.io": up.Addr()})
	file := filepath.Join(w.Runtime.CertsDir(), up.Addr(), "hosts.toml")
	text, err := os.ReadFile(file)
	if err == nil { // Docker's own registry has a certificate that everybody knows
		err = os.WriteFile(file, append([]byte("ca = \"ca.crt\"\n"), text...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.pod(t, "upstream", want{image: up.Ref("upstream:1")})
	w.runs(t, "upstream")
}
