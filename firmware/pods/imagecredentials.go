package pods

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/images"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// dockerConfig is a secret of type kubernetes.io/dockerconfigjson, or the content of the older kubernetes.io/dockercfg.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// credential is a way into a registry, and whose it is.
type credential struct {
	auth   *cri.AuthConfig
	secret secretName // zero: not from a secret
}

// secretName says which secret it is: one that was deleted and made again is another.
type secretName struct {
	UID       string `json:"uid,omitempty"`
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"name,omitempty"`
}

// hash is the same for the same user and password, whatever secret they are from.
func (c credential) hash() string {
	a := c.auth
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q", a.Username, a.Password, a.Auth, a.IdentityToken, a.RegistryToken))
	return hex.EncodeToString(sum[:16])
}

// credentials is what a pod's imagePullSecrets say about the registry of an image.
type credentials struct {
	list    []credential // in the order in which they are tried
	missing []string     // secrets that the cluster does not have
}

// hash changes with what would be tried.
func (c credentials) hash() string {
	var all []string
	for _, one := range c.list {
		all = append(all, one.hash())
	}
	return strings.Join(all, " ")
}

// pullCredentials finds what a pod has for an image: all entries that fit, the ones that say most about the path first, and those that say the same
// in the order in which the pod names the secrets. Secrets that do not exist are passed over, as by the kubelet: the image may be public.
func pullCredentials(spec *corev1.PodSpec, image string, refs references) (credentials, error) {
	var out credentials
	if len(spec.ImagePullSecrets) == 0 {
		return out, nil
	}
	name, err := images.ParseReference(image)
	if err != nil {
		return out, waitFor("InvalidImageName", "couldn't parse image name %q: %v", image, err)
	}
	type entry struct {
		server string
		credential
	}
	var fits []entry
	optional := true
	for _, ref := range spec.ImagePullSecrets {
		data, err := refs.data(wire.KindSecret, ref.Name, &optional)
		if err != nil {
			return out, err
		}
		if data == nil {
			out.missing = append(out.missing, ref.Name)
			continue
		}
		o, _ := refs.desired.Get(wire.NewKey(wire.KindSecret, refs.namespace, ref.Name, ""))
		secret := secretName{UID: o.Version.UID, Namespace: refs.namespace, Name: ref.Name}
		auths, err := parseDockerConfig(ref.Name, data)
		if err != nil {
			return out, err
		}
		for server, a := range auths {
			key := serverKey(server)
			if !matchesServer(key, name) {
				continue
			}
			auth, err := a.config()
			if err != nil {
				return out, waitFor("ErrImagePull", "imagePullSecret %q: entry for %s: %v", ref.Name, server, err)
			}
			fits = append(fits, entry{key, credential{auth, secret}})
		}
	}
	slices.SortStableFunc(fits, func(a, b entry) int {
		return cmp.Or(cmp.Compare(len(serverPath(b.server)), len(serverPath(a.server))), strings.Compare(b.server, a.server))
	})
	for _, e := range fits {
		out.list = append(out.list, e.credential)
	}
	return out, nil
}

// parseDockerConfig reads a secret of either type. One of another type has nothing to say.
func parseDockerConfig(name string, data map[string][]byte) (map[string]dockerAuth, error) {
	switch {
	case data[".dockerconfigjson"] != nil:
		var c dockerConfig
		if err := json.Unmarshal(data[".dockerconfigjson"], &c); err != nil {
			return nil, waitFor("ErrImagePull", "imagePullSecret %q: .dockerconfigjson: %v", name, err)
		}
		return c.Auths, nil
	case data[".dockercfg"] != nil:
		var auths map[string]dockerAuth
		if err := json.Unmarshal(data[".dockercfg"], &auths); err != nil {
			return nil, waitFor("ErrImagePull", "imagePullSecret %q: .dockercfg: %v", name, err)
		}
		return auths, nil
	}
	return nil, nil
}

// serverKey is an entry's name as HOST or HOST/PATH: https://index.docker.io/v1/ is what docker login writes for docker.io.
func serverKey(server string) string {
	s := strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	host, folder, _ := strings.Cut(s, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		host = "docker.io"
	}
	for _, version := range []string{"v1", "v2"} {
		if folder == version {
			folder = ""
		}
		folder = strings.TrimPrefix(folder, version+"/")
	}
	if folder = strings.Trim(folder, "/"); folder == "" {
		return host
	}
	return host + "/" + folder
}

func serverPath(key string) string {
	_, folder, _ := strings.Cut(key, "/")
	return folder
}

// matchesServer compares as the kubelet does: the host label by label, where "*" stands for a label or a part of one, the port, and the beginning of
// the path.
func matchesServer(key string, image images.Reference) bool {
	host, folder, _ := strings.Cut(key, "/")
	want, wantPort, _ := strings.Cut(host, ":")
	have, havePort, _ := strings.Cut(image.Registry, ":")
	labels, others := strings.Split(want, "."), strings.Split(have, ".")
	if wantPort != havePort || len(labels) != len(others) || !strings.HasPrefix(image.Path, folder) {
		return false
	}
	for i := range labels {
		if labels[i] == others[i] {
			continue
		}
		if ok, err := path.Match(labels[i], others[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// config returns the credentials for the runtime. Without a ServerAddress, as from the kubelet: containerd takes it for a URL, and passes over
// credentials whose URL has not the image's host.
func (a *dockerAuth) config() (*cri.AuthConfig, error) {
	out := &cri.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}
	if a.Auth == "" {
		return out, nil
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(a.Auth, "="))
	user, password, ok := strings.Cut(string(b), ":")
	if err != nil || !ok {
		return nil, errors.New("auth is not the base64 of USER:PASSWORD")
	}
	out.Username, out.Password = user, strings.TrimRight(password, "\x00")
	return out, nil
}
