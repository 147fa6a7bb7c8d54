package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/images"
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

// pullTry is the back-off of one container's image, and why it last failed.
type pullTry struct {
	backoff
	last string
	with string // the credentials that were tried
}

// imagePuller gets one container's image, with the kubelet's back-off. It belongs to one worker.
type imagePuller struct {
	rt     ImageRuntime
	pulls  *pulls
	access *imageAccess
	tries  map[string]*pullTry // by container name and image
	event  func(eventType, reason, message string)
	note   func(id, ref string) // an image was pulled
	now    func() time.Time
}

// earlierRun is what is known of an earlier run of the container in its pod, here.
type earlierRun struct {
	ran   bool
	image string // reference or id of the image that it ran; empty: not known
}

func earlier(prior *containerState) earlierRun {
	if prior == nil {
		return earlierRun{}
	}
	return earlierRun{true, prior.imageRef}
}

// imageWant is what a container wants of an image.
type imageWant struct {
	c       *corev1.Container
	before  earlierRun
	creds   func() (credentials, error) // what its pod has for the registry
	sandbox *cri.PodSandboxConfig
}

// ensure returns the image of a container, and the reference to start it by. An error is a *waitError with the kubelet's
// reason, or the runtime's own if it cannot be reached.
//
// If the container has run here before and its image can not be pulled again, the one that is there will do, in spite of policy Always: a gateway
// that is cut off must be able to restart what it was running.
func (p *imagePuller) ensure(ctx context.Context, want imageWant) (*cri.Image, string, error) {
	c := want.c
	if _, err := images.ParseReference(c.Image); err != nil {
		msg := fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: %v: write it as REGISTRY/NAME:TAG, in lower case and without spaces", c.Image, c.Image, err)
		p.event(eventWarning, "InspectFailed", msg)
		return nil, "", waitFor("InvalidImageName", "%s", msg)
	}
	spec := &cri.ImageSpec{Image: c.Image, UserSpecifiedImage: c.Image}
	have, err := p.rt.ImageStatus(ctx, spec, false)
	if err != nil {
		return nil, "", p.failure(err, "ImageInspectError", fmt.Sprintf("Failed to inspect image %q", c.Image), "")
	}
	usable, err := p.usable(ctx, want, have.Image)
	if err != nil {
		return nil, "", err
	}
	switch {
	case usable && c.ImagePullPolicy != pullAlways:
		p.event(eventNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
		return have.Image, have.Image.ID, nil
	case c.ImagePullPolicy == pullNever: // the same words where the image is there for others only
		msg := fmt.Sprintf("Container image %q is not present with pull policy of Never: load it into the container runtime, or change imagePullPolicy", c.Image)
		p.event(eventWarning, "ErrImageNeverPull", msg)
		return nil, "", waitFor("ErrImageNeverPull", "%s", msg)
	}
	creds, err := want.creds()
	if err != nil {
		return nil, "", err
	}
	b := p.try(c, creds)
	fallback := want.before.ran && usable
	if b.left(p.now()) > 0 {
		if fallback {
			return have.Image, have.Image.ID, nil
		}
		msg := fmt.Sprintf("Back-off pulling image %q", c.Image)
		p.event(eventNormal, "BackOff", msg)
		return nil, "", waitFor("ImagePullBackOff", "%s: %s", msg, b.last)
	}
	image, ref, err := p.pull(ctx, want, spec, creds)
	if err != nil {
		if ctx.Err() == nil {
			b.fail(p.now(), backoffFirst, backoffMax)
			b.last = err.Error()
			if e, ok := errors.AsType[*waitError](err); ok {
				b.last = e.reason + ": " + e.message
			}
		}
		if _, waits := errors.AsType[*waitError](err); waits && fallback {
			return have.Image, have.Image.ID, nil
		}
		return nil, "", err
	}
	delete(p.tries, tryKey(c))
	return image, ref, nil
}

// usable reports whether an image is there, and the pod may use it without asking the registry.
func (p *imagePuller) usable(ctx context.Context, want imageWant, image *cri.Image) (bool, error) {
	if image == nil {
		return false, nil
	}
	if ran := want.before.image; ran != "" && (image.ID == ran || slices.Contains(image.RepoDigests, ran)) {
		return true, nil
	}
	return p.access.mayUse(ctx, image.ID, want.c.Image, want.creds)
}

func tryKey(c *corev1.Container) string { return c.Name + " " + c.Image }

// try returns the back-off of a container's image. One whose credentials have changed need not wait.
func (p *imagePuller) try(c *corev1.Container, creds credentials) *pullTry {
	b := p.tries[tryKey(c)]
	if with := creds.hash(); b == nil || b.with != with {
		b = &pullTry{with: with}
		p.tries[tryKey(c)] = b
	}
	return b
}

func (p *imagePuller) pull(ctx context.Context, want imageWant, spec *cri.ImageSpec, creds credentials) (*cri.Image, string, error) {
	c := want.c
	what := fmt.Sprintf("Failed to pull image %q", c.Image)
	if len(creds.missing) > 0 {
		p.event(eventWarning, "FailedToRetrieveImagePullSecret",
			fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(creds.missing, ", ")))
	}
	if len(creds.list) > 0 {
		if err := p.access.begin(ctx, c.Image); err != nil {
			return nil, "", p.failure(err, "ErrImagePull", what, "")
		}
		defer p.access.end(ctx, c.Image)
	}
	p.event(eventNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	begin := p.now()
	got, err := p.pulls.get(ctx, spec, creds.list, want.sandbox, func(text string) {
		p.event(eventNormal, "Pulling", fmt.Sprintf("Pulling image %q since %s: %s", c.Image, p.now().Sub(begin).Round(time.Second), text))
	})
	if err != nil {
		return nil, "", p.failure(err, "ErrImagePull", what, adviceFor(err, c.Image, creds))
	}
	have, err := p.rt.ImageStatus(ctx, &cri.ImageSpec{Image: got.ref, UserSpecifiedImage: c.Image}, false)
	if err != nil || have.Image == nil {
		return nil, "", p.failure(fmt.Errorf("it was pulled, but the runtime does not have it: %w", orNotFound(err)), "ErrImagePull", what, "")
	}
	p.event(eventNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.",
		c.Image, got.took.Round(time.Millisecond), p.now().Sub(begin).Round(time.Millisecond), have.Image.Size))
	p.note(have.Image.ID, c.Image)
	p.access.pulled(ctx, have.Image.ID, c.Image, got.used)
	return have.Image, got.ref, nil
}

func orNotFound(err error) error {
	if err == nil {
		return cri.ErrNotFound
	}
	return err
}

// failure turns an error of the runtime into a waiting reason; one that says that the runtime is gone is passed on as it is.
func (p *imagePuller) failure(err error, reason, what, advice string) error {
	if runtimeGone(err) {
		return err
	}
	if e, ok := errors.AsType[*cri.Error](err); ok && reason == "ErrImagePull" {
		reason = pullReason(e.Message)
	}
	msg := fmt.Sprintf("%s: %v%s", what, err, advice)
	p.event(eventWarning, "Failed", msg)
	return waitFor(reason, "%s", msg)
}

// wait returns how long the back-off of a container's image lasts still.
func (p *imagePuller) wait(c *corev1.Container) time.Duration {
	if b := p.tries[tryKey(c)]; b != nil {
		return b.left(p.now())
	}
	return 0
}
