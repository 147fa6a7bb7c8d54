package pods

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/images"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

func TestServersOfCredentials(t *testing.T) {
	for _, c := range []struct {
		server, image string
		fits          bool
	}{
		{"*.example.org", "eu.example.org/app:1", true}, {"*.example.org", "a.eu.example.org/app:1", false}, {"*.example.org:5000", "eu.example.org/app:1", false},
		{"https://*.example.org:5000", "eu.example.org:5000/app:1", true}, {"*.example.org/team", "eu.example.org/team/app:1", true}, {"*.example.org/team", "eu.example.org/other/app:1", false},
		{"example.org", "eu.example.org/app:1", false}, {"eu-*.example.org", "eu-1.example.org/app", true},
		{"https://index.docker.io/v1/", "app", true}, {"docker.io", "team/app", true}, {"docker.io/team", "team/app:1", true}, {"docker.io/team", "other/app:1", false},
		{"r.io", "r.io/a", true}, {"https://r.io/team", "r.io/team/a", true}, {"https://r.io/v2/team/", "r.io/team/a", true}, {"https://r.io/team", "r.io/other/a", false},
		{"r.io", "app", false}, {"r.io:5000", "r.io/a", false}, {"[2001:db8::7]:5000", "[2001:db8::7]:5000/app", true},
	} {
		ref, err := images.ParseReference(c.image)
		if err != nil {
			t.Fatal(err)
		}
		if got := matchesServer(serverKey(c.server), ref); got != c.fits {
			t.Errorf("%s for %s: %v", c.server, c.image, got)
		}
	}
}

func TestEntriesOfCredentials(t *testing.T) {
	for _, c := range []struct{ entry, user, password string }{
		{"dTpwOnc=", "u", "p:w"}, {"dTpwOnc", "u", "p:w"}, {"", "given", "word"}, {"dQ==", "", ""}, {"%", "", ""},
	} {
		a := &dockerAuth{Username: "given", Password: "word", Auth: c.entry}
		got, err := a.config()
		if (err != nil) != (c.user == "") || err == nil && *got != (cri.AuthConfig{Username: c.user, Password: c.password}) { // no ServerAddress
			t.Errorf("%q: %+v, %v", c.entry, got, err)
		}
	}
}

// secretDesired holds secrets of the namespace default, each with a document per registry.
func secretDesired(t *testing.T, secrets map[string]string) *fakeDesired {
	t.Helper()
	d := &fakeDesired{objects: map[wire.Key]wire.Object{}}
	for name, data := range secrets {
		key, _, _ := strings.Cut(data, "=")
		body, err := canon.FromJSON([]byte(fmt.Sprintf(`{"data":{%q:%q}}`, key, base64.StdEncoding.EncodeToString([]byte(data[len(key)+1:])))))
		if err != nil {
			t.Fatal(err)
		}
		d.put(wire.Object{Key: wire.Key("secrets/default/" + name), Version: wire.Version{UID: "uid-" + name}, Body: body})
	}
	return d
}

func TestCredentialsOfAPod(t *testing.T) {
	d := secretDesired(t, map[string]string{
		"all":  `.dockerconfigjson={"auths":{"r.io":{"username":"u","password":"1"},"r.io/team":{"username":"u","password":"2"},"other.io":{"username":"u","password":"3"}}}`,
		"old":  `.dockercfg={"https://r.io":{"username":"u","password":"4"}}`,
		"none": `token=5`,
		"bad":  `.dockerconfigjson={`,
		"odd":  `.dockercfg={"r.io":{"auth":"%"},"other.io":{"auth":"dTpw"}}`,
	})
	d.put(wire.Object{Key: "secrets/default/gone", Absent: true})
	find := func(image string, names ...string) (credentials, error) {
		spec := &corev1.PodSpec{}
		for _, n := range names {
			spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: n})
		}
		return pullCredentials(spec, image, references{desired: d, namespace: "default"})
	}
	got, err := find("r.io/team/app:1", "none", "old", "gone", "all")
	var order []string
	for _, c := range got.list {
		order = append(order, c.auth.Password+" "+c.secret.Name+" "+c.secret.UID)
	}
	if want := []string{"2 all uid-all", "4 old uid-old", "1 all uid-all"}; err != nil || !slices.Equal(order, want) || !slices.Equal(got.missing, []string{"gone"}) {
		t.Errorf("tried are %q, missing %q, %v", order, got.missing, err)
	}
	if got, err := find("app:1", "all"); err != nil || len(got.list) != 0 {
		t.Errorf("another registry: %+v, %v", got, err)
	}
	for _, c := range []struct{ image, secret, want string }{
		{"r.io/app", "bad", `imagePullSecret "bad": .dockerconfigjson`}, {"r.io/app", "odd", `imagePullSecret "odd": entry for r.io: auth is not the base64`}, {"r.io/app", "late", "has not arrived"},
	} {
		if _, err := find(c.image, c.secret); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.secret, err)
		}
	}
	if got, err := find("other.io/app", "odd"); err != nil || len(got.list) != 1 {
		t.Errorf("an entry for another registry is in the way: %+v, %v", got, err)
	}
}

func FuzzPullSecret(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://r.io/v2/team/":{"auth":"dTpw"},"*.example.org:5000":{"username":"u","password":"p"}}}`), []byte(`{"r.io":{"auth":"%"}}`), "r.io/team/app:1")
	f.Fuzz(func(t *testing.T, modern, legacy []byte, image string) {
		ref, err := images.ParseReference(image)
		if err != nil {
			return
		}
		for key, b := range map[string][]byte{".dockerconfigjson": modern, ".dockercfg": legacy} {
			auths, err := parseDockerConfig("s", map[string][]byte{key: b})
			if err != nil && len(auths) > 0 {
				t.Errorf("%d entries beside an error: %v", len(auths), err)
			}
			for server, a := range auths {
				if !matchesServer(serverKey(server), ref) {
					continue
				}
				if auth, err := a.config(); (auth == nil) == (err == nil) {
					t.Errorf("%+v, %v", auth, err)
				}
			}
		}
	})
}
