package pods

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/skerry/skerry/firmware/images"
)

// Values of Options.ImageCheck: kubelet's imagePullCredentialsVerificationPolicy.
const (
	// CheckPulled: whoever wants an image that this agent has pulled with somebody's credentials shows his own to the registry first.
	CheckPulled = "NeverVerifyPreloadedImages"
	// CheckAll: whoever wants an image that is not known to be everybody's does, those that were flashed and imported included.
	CheckAll = "AlwaysVerify"
	// CheckNone: what is on the disk is everybody's.
	CheckNone = "NeverVerify"
)

// Records keeps small documents for good. firmware/agent makes one of *store.Store; Put is durable when it returns.
type Records interface {
	Scan(prefix string, fn func(key string, record []byte) error) error
	Put(ctx context.Context, key string, record []byte) error
	Delete(ctx context.Context, keys ...string) error
}

// Keys of records.
const (
	accessPrefix = "image/"      // + id of the image: with what it was pulled
	intentPrefix = "image-pull/" // + hash of its name: a pull with somebody's credentials is under way, or was when the power failed
)

// maxSecrets bounds the secrets that are known to open one image, as in the kubelet. More ask the registry.
const maxSecrets = 100

// access is who may use an image under one of its names.
type access struct {
	Everybody bool          `json:"all,omitempty"` // it was pulled without credentials
	Secrets   []imageSecret `json:"secrets,omitempty"`
}

// imageSecret are credentials that the registry has taken.
type imageSecret struct {
	secretName
	Hash string `json:"hash"`
}

// imageAccess knows with whose credentials images were pulled, so that no pod runs a private image only because another pod's pull has left it on
// the disk (kubelet: KubeletEnsureSecretPulledImages). What nobody has pulled here, because it was flashed or imported, is everybody's.
// It may be used by any goroutine.
type imageAccess struct {
	policy   string
	records  Records // nil: it is forgotten with the agent
	imported func() (map[string]string, error)
	log      *slog.Logger

	mu      sync.Mutex
	images  map[string]map[string]*access // by id, and repository
	intents map[string]int                // names of images, and the pulls of them that are under way; 0: the power failed
	touched map[string]bool               // ids that were pulled since the last prune
}

func newImageAccess(policy string, records Records, imported func() (map[string]string, error), log *slog.Logger) *imageAccess {
	a := &imageAccess{policy: policy, records: records, imported: imported, log: log, images: map[string]map[string]*access{}, intents: map[string]int{}, touched: map[string]bool{}}
	if records == nil {
		return a
	}
	err := records.Scan(accessPrefix, func(key string, b []byte) error {
		var repos map[string]*access
		if err := json.Unmarshal(b, &repos); err != nil {
			repos = nil // somebody's, and nobody knows whose
		}
		a.images[strings.TrimPrefix(key, accessPrefix)] = repos
		return nil
	})
	if err == nil {
		err = records.Scan(intentPrefix, func(_ string, name []byte) error {
			a.intents[string(name)] = 0
			return nil
		})
	}
	if err != nil {
		log.Warn("what is known of the credentials of images cannot be read: pods may use all images that are on the disk", "error", err)
	}
	return a
}

// mayUse reports whether a pod may use an image that is on the disk. If not, it has to pull it with its own credentials, which are asked
// for only if it matters.
func (a *imageAccess) mayUse(ctx context.Context, id, name string, own func() (credentials, error)) (bool, error) {
	if a.policy == CheckNone {
		return true, nil
	}
	if imported, err := a.imported(); err == nil && imported[id] != "" && a.policy != CheckAll {
		return true, nil
	}
	have, pulled := a.known(id, name)
	if !pulled {
		return a.policy != CheckAll, nil
	}
	if have.Everybody || len(have.Secrets) == 0 {
		return have.Everybody, nil
	}
	creds, err := own()
	if err != nil {
		return false, err
	}
	for _, c := range creds.list {
		if have.opens(c) {
			a.pulled(ctx, id, name, c) // next time the new password, or the copy of the secret, is known
			return true, nil
		}
	}
	return false, nil
}

// known returns who may use an image by a name, and whether this agent has pulled it at all.
func (a *imageAccess) known(id, name string) (have access, pulled bool) {
	full, repo := fullName(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	repos, pulled := a.images[id]
	_, intended := a.intents[full]
	if at := repos[repo]; at != nil {
		have = access{at.Everybody, slices.Clone(at.Secrets)}
	}
	return have, pulled || intended
}

// fullName completes the name of an image, and returns the part before tag and digest, too. What is no name stays as it is.
func fullName(name string) (full, repo string) {
	ref, err := images.ParseReference(name)
	repo = ref.Repository()
	switch {
	case err != nil:
		return name, name
	case ref.Digest != "":
		return repo + "@" + ref.Digest, repo
	}
	return repo + ":" + cmp.Or(ref.Tag, "latest"), repo
}

// opens reports whether a credential is one that was used: the same secret, whatever its password is by now, or the same password.
func (h access) opens(c credential) bool {
	hash := c.hash()
	return slices.ContainsFunc(h.Secrets, func(s imageSecret) bool {
		return s.Hash == hash || s.secretName == c.secret && c.secret != secretName{}
	})
}

// begin notes that an image is about to be pulled with somebody's credentials, durably: if the power fails between the pull and its
// record, the image is not taken for everybody's. end is called afterwards.
func (a *imageAccess) begin(ctx context.Context, name string) error {
	name, _ = fullName(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, there := a.intents[name]; !there && a.records != nil {
		if err := a.records.Put(ctx, intentKey(name), []byte(name)); err != nil {
			return fmt.Errorf("note that image %s is pulled with credentials: %w", name, err)
		}
	}
	a.intents[name]++
	return nil
}

// end is called once for each begin. If ctx has ended, nobody knows how the pull ended, and the note stays.
func (a *imageAccess) end(ctx context.Context, name string) {
	name, _ = fullName(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.intents[name]--; a.intents[name] > 0 || ctx.Err() != nil {
		return
	}
	delete(a.intents, name)
	if a.records == nil {
		return
	}
	if err := a.records.Delete(ctx, intentKey(name)); err != nil {
		a.log.Warn("the note of a pull cannot be removed", "image", name, "error", err)
	}
}

func intentKey(name string) string {
	sum := sha256.Sum256([]byte(name))
	return intentPrefix + hex.EncodeToString(sum[:16])
}

// pulled notes what opened an image; the zero credential is none. If that cannot be kept, the next pod asks the registry.
func (a *imageAccess) pulled(ctx context.Context, id, name string, c credential) {
	_, repo := fullName(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.touched[id] = true
	repos := a.images[id]
	if repos == nil {
		repos = map[string]*access{}
	}
	at := repos[repo]
	if at == nil {
		at = &access{}
	}
	if !at.add(c) {
		return
	}
	repos[repo] = at
	a.images[id] = repos
	if a.records == nil {
		return
	}
	b, err := json.Marshal(repos)
	if err == nil {
		err = a.records.Put(context.WithoutCancel(ctx), accessPrefix+id, b)
	}
	if err != nil {
		a.log.Warn("with what an image was pulled cannot be kept: after a restart, pods that use it ask the registry", "image", name, "error", err)
	}
}

// add notes a credential. It returns false if nothing is new.
func (h *access) add(c credential) bool {
	if h.Everybody {
		return false
	}
	if c.auth == nil {
		h.Everybody, h.Secrets = true, nil
		return true
	}
	s := imageSecret{c.secret, c.hash()}
	if slices.Contains(h.Secrets, s) {
		return false
	}
	if c.secret != (secretName{}) { // its password has changed
		h.Secrets = slices.DeleteFunc(h.Secrets, func(old imageSecret) bool { return old.secretName == c.secret })
	}
	if len(h.Secrets) >= maxSecrets {
		return false
	}
	h.Secrets = append(h.Secrets, s)
	return true
}

// prune forgets images that are not on the disk any more, and pulls that never ended and whose image is not there. there are the ids of all images,
// named reports whether one of them has a name.
func (a *imageAccess) prune(ctx context.Context, there map[string]bool, named func(name string) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var gone []string
	for id := range a.images {
		if !there[id] && !a.touched[id] { // one that was pulled since the list was made stays
			delete(a.images, id)
			gone = append(gone, accessPrefix+id)
		}
	}
	clear(a.touched)
	for name, underWay := range a.intents {
		if underWay == 0 && !named(name) {
			delete(a.intents, name)
			gone = append(gone, intentKey(name))
		}
	}
	if len(gone) == 0 || a.records == nil {
		return
	}
	if err := a.records.Delete(ctx, gone...); err != nil {
		a.log.Warn("records of images that are gone stay in the store", "error", err)
	}
}
