package pods

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Values of imagePullPolicy.
const (
	pullAlways       = "Always"
	pullIfNotPresent = "IfNotPresent"
	pullNever        = "Never"
)

// defaultPullPolicy is what the API server fills in: Always for :latest and for no tag.
func defaultPullPolicy(image string) string {
	if strings.Contains(image, "@") {
		return pullIfNotPresent
	}
	name := image[strings.LastIndexByte(image, '/')+1:]
	_, tag, _ := strings.Cut(name, ":")
	if tag == "" || tag == "latest" {
		return pullAlways
	}
	return pullIfNotPresent
}

// registryOf returns the registry that an image's name stands for, by Docker's rules.
func registryOf(image string) string {
	host, _, ok := strings.Cut(image, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "docker.io"
	}
	return host
}

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

// credentials finds what the pod's imagePullSecrets say about an image's registry. Secrets that do not exist are passed over, as
// by the kubelet: the image may be public.
func credentials(spec *corev1.PodSpec, image string, refs references) ([]*cri.AuthConfig, error) {
	var out []*cri.AuthConfig
	optional := true
	for _, ref := range spec.ImagePullSecrets {
		data, err := refs.data(wire.KindSecret, ref.Name, &optional)
		if err != nil {
			return nil, err
		}
		var auths map[string]dockerAuth
		switch {
		case data[".dockerconfigjson"] != nil:
			var c dockerConfig
			if err := json.Unmarshal(data[".dockerconfigjson"], &c); err != nil {
				return nil, waitFor("ErrImagePull", "imagePullSecret %q: .dockerconfigjson: %v", ref.Name, err)
			}
			auths = c.Auths
		case data[".dockercfg"] != nil:
			if err := json.Unmarshal(data[".dockercfg"], &auths); err != nil {
				return nil, waitFor("ErrImagePull", "imagePullSecret %q: .dockercfg: %v", ref.Name, err)
			}
		}
		for _, server := range slices.SortedFunc(maps.Keys(auths), func(a, b string) int { // who names a folder of the registry goes first
			return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
		}) {
			a := auths[server]
			if auth := a.config(server, image); auth != nil {
				out = append(out, auth)
			}
		}
	}
	return out, nil
}

// config returns the credentials if they are for the image's registry.
func (a *dockerAuth) config(server, image string) *cri.AuthConfig {
	host := strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	host, folder, _ := strings.Cut(host, "/")
	registry := registryOf(image)
	switch {
	case host == registry:
	case host == "index.docker.io" || host == "registry-1.docker.io":
		if registry != "docker.io" {
			return nil
		}
		folder = ""
	case matchesHost(host, registry): // *.example.org
		host = registry
	default:
		return nil
	}
	if folder = strings.TrimSuffix(strings.TrimPrefix(folder, "v1/"), "/"); folder != "" && folder != "v1" && folder != "v2" &&
		!strings.HasPrefix(image, host+"/"+folder) {
		return nil
	}
	// No ServerAddress, as from the kubelet: containerd takes it for a URL, and passes over credentials whose URL has not the image's host.
	out := &cri.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}
	if out.Username == "" && a.Auth != "" {
		if b, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
			out.Username, out.Password, _ = strings.Cut(string(b), ":")
		}
	}
	return out
}

// matchesHost compares a host with "*" in some of its labels, as the kubelet does: label by label, port by port.
func matchesHost(pattern, registry string) bool {
	if !strings.Contains(pattern, "*") {
		return false
	}
	want, wantPort, _ := strings.Cut(pattern, ":")
	have, havePort, _ := strings.Cut(registry, ":")
	labels, others := strings.Split(want, "."), strings.Split(have, ".")
	if wantPort != havePort || len(labels) != len(others) {
		return false
	}
	for i := range labels {
		if ok, err := path.Match(labels[i], others[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// pullTry is the back-off of one container's image, and why it last failed.
type pullTry struct {
	backoff
	last string
}

// imagePuller gets one container's image, with the kubelet's back-off. It belongs to one worker.
type imagePuller struct {
	rt    ImageRuntime
	pulls *pulls
	tries map[string]*pullTry // by container name and image
	event func(eventType, reason, message string)
	note  func(id, ref string) // an image was pulled
	now   func() time.Time
}

// ensure returns the image of a container, and the reference to start it by. An error is a *waitError with the kubelet's
// reason, or the runtime's own if it cannot be reached.
//
// ranBefore says that this pod has already run this container here. If its image can then not be pulled again, the one that is
// there will do, in spite of policy Always: a gateway that is cut off must be able to restart what it was running.
func (p *imagePuller) ensure(ctx context.Context, c *corev1.Container, ranBefore bool, auths func() ([]*cri.AuthConfig, error), sandbox *cri.PodSandboxConfig) (*cri.Image, string, error) {
	if c.Image == "" || strings.ContainsAny(c.Image, " \t\n") {
		msg := fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name: write it as REGISTRY/NAME:TAG, in lower case and without spaces", c.Image)
		p.event(eventWarning, "InspectFailed", msg)
		return nil, "", waitFor("InvalidImageName", "%s", msg)
	}
	spec := &cri.ImageSpec{Image: c.Image, UserSpecifiedImage: c.Image}
	have, err := p.rt.ImageStatus(ctx, spec, false)
	if err != nil {
		return nil, "", p.failure(err, "ImageInspectError", fmt.Sprintf("Failed to inspect image %q", c.Image))
	}
	switch {
	case have.Image != nil && c.ImagePullPolicy != pullAlways:
		p.event(eventNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
		return have.Image, have.Image.ID, nil
	case c.ImagePullPolicy == pullNever:
		msg := fmt.Sprintf("Container image %q is not present with pull policy of Never: load it into the container runtime, or change imagePullPolicy", c.Image)
		p.event(eventWarning, "ErrImageNeverPull", msg)
		return nil, "", waitFor("ErrImageNeverPull", "%s", msg)
	}
	key := c.Name + " " + c.Image
	b := p.tries[key]
	if b == nil {
		b = new(pullTry)
		p.tries[key] = b
	}
	if b.left(p.now()) > 0 {
		if ranBefore && have.Image != nil {
			return have.Image, have.Image.ID, nil
		}
		msg := fmt.Sprintf("Back-off pulling image %q", c.Image)
		p.event(eventNormal, "BackOff", msg)
		return nil, "", waitFor("ImagePullBackOff", "%s: %s", msg, b.last)
	}
	image, ref, err := p.pull(ctx, c, spec, auths, sandbox)
	if err != nil {
		if ctx.Err() == nil {
			b.fail(p.now(), backoffFirst, backoffMax)
			b.last = err.Error()
		}
		if _, waits := errors.AsType[*waitError](err); waits && ranBefore && have.Image != nil {
			return have.Image, have.Image.ID, nil
		}
		return nil, "", err
	}
	delete(p.tries, key)
	return image, ref, nil
}

func (p *imagePuller) pull(ctx context.Context, c *corev1.Container, spec *cri.ImageSpec, auths func() ([]*cri.AuthConfig, error), sandbox *cri.PodSandboxConfig) (*cri.Image, string, error) {
	creds, err := auths()
	if err != nil {
		return nil, "", err
	}
	p.event(eventNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	begin := p.now()
	ref, took, err := p.pulls.get(ctx, spec, creds, sandbox, func(text string) {
		p.event(eventNormal, "Pulling", fmt.Sprintf("Pulling image %q since %s: %s", c.Image, p.now().Sub(begin).Round(time.Second), text))
	})
	if err != nil {
		return nil, "", p.failure(err, "ErrImagePull", fmt.Sprintf("Failed to pull image %q", c.Image))
	}
	have, err := p.rt.ImageStatus(ctx, &cri.ImageSpec{Image: ref, UserSpecifiedImage: c.Image}, false)
	if err != nil || have.Image == nil {
		return nil, "", p.failure(fmt.Errorf("it was pulled, but the runtime does not have it: %w", orNotFound(err)), "ErrImagePull", fmt.Sprintf("Failed to pull image %q", c.Image))
	}
	p.event(eventNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.",
		c.Image, took.Round(time.Millisecond), p.now().Sub(begin).Round(time.Millisecond), have.Image.Size))
	p.note(have.Image.ID, c.Image)
	return have.Image, ref, nil
}

func orNotFound(err error) error {
	if err == nil {
		return cri.ErrNotFound
	}
	return err
}

// failure turns an error of the runtime into a waiting reason; one that says that the runtime is gone is passed on as it is.
func (p *imagePuller) failure(err error, reason, what string) error {
	if runtimeGone(err) {
		return err
	}
	msg := fmt.Sprintf("%s: %v", what, err)
	p.event(eventWarning, "Failed", msg)
	return waitFor(reason, "%s", msg)
}

// wait returns how long the back-off of a container's image lasts still.
func (p *imagePuller) wait(c *corev1.Container) time.Duration {
	if b := p.tries[c.Name+" "+c.Image]; b != nil {
		return b.left(p.now())
	}
	return 0
}
