package pods

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Annotations of static pods and of their mirrors in the API (the kubelet's, pkg/kubelet/types).
const (
	annoConfigSource = "kubernetes.io/config.source"
	annoConfigHash   = "kubernetes.io/config.hash"
	annoConfigSeen   = "kubernetes.io/config.seen"
	annoMirror       = "kubernetes.io/config.mirror"
	sourceFile       = "file"
)

const (
	staticPeriod   = 10 * time.Second // between looks at the folder
	maxStaticFile  = 256 << 10
	maxStaticFiles = 100
	uidDigits      = 32 // of a static pod's UID, as the kubelet's
	reasonStatic   = "InvalidStaticPod"
)

// staticPod is a pod that comes from a file on the gateway. Its UID is the hash of the node's name, the file's path and its content: a
// changed file is another pod.
type staticPod struct {
	object  wire.Object
	stamp   string // of the file: what is unchanged is not read again
	pod     *corev1.Pod
	request []byte // what is reported so that the relay makes the mirror
}

// statics are the pods of Options.StaticDir, and their mirrors in the API: pods that only show what runs here, which the relay makes
// and deletes on this node's word. It also is the manager's Reporter: what is said of a static pod is reported of its mirror.
// All methods may be called by any goroutine.
type statics struct {
	m       *Manager
	changed chan struct{} // the set of pods is another one
	blind   atomic.Bool   // the folder cannot be read

	mu      sync.Mutex
	byFile  map[string]*staticPod // by path
	read    bool                  // the folder was, at least once
	wrong   map[string]string     // files that cannot be used now, and what was said of them
	told    map[wire.Key][]byte   // the newest report on each static pod
	mirrors map[wire.Key]wire.Key // by the static pod's key: that of its mirror in the API, if there is one
	asked   map[wire.Key]bool     // static pods whose mirror the relay was asked to make
	gone    map[wire.Key]bool     // mirrors that the relay was asked to delete
}

func newStatics(m *Manager) *statics {
	return &statics{m: m, changed: make(chan struct{}, 1), byFile: map[string]*staticPod{}, wrong: map[string]string{}, told: map[wire.Key][]byte{},
		mirrors: map[wire.Key]wire.Key{}, asked: map[wire.Key]bool{}, gone: map[wire.Key]bool{}}
}

// run looks at the folder until ctx ends.
func (s *statics) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(staticPeriod):
		}
		if s.load() {
			select {
			case s.changed <- struct{}{}:
			default:
			}
		}
	}
}

// load reads the folder, and returns whether the set of pods has changed. A file that cannot be used leaves the pod that it held
// before: it may be about to be written.
func (s *statics) load() (changed bool) {
	entries, err := os.ReadDir(s.m.o.StaticDir)
	s.blind.Store(err != nil && !errors.Is(err, os.ErrNotExist))
	if s.blind.Load() {
		s.complain(s.m.o.StaticDir, err)
		return false // to see nothing is no reason to stop anything
	}
	s.mu.Lock()
	old := s.byFile
	s.mu.Unlock()
	fresh, wrong, n := map[string]*staticPod{}, map[string]bool{}, 0
	complain := func(path string, err error) {
		wrong[path] = true
		s.complain(path, err)
	}
	for _, e := range entries {
		path := filepath.Join(s.m.o.StaticDir, e.Name())
		if strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) || e.IsDir() {
			continue
		}
		if n++; n > maxStaticFiles {
			complain(path, fmt.Errorf("the folder has more than %d pods; it and what follows is left out", maxStaticFiles))
			break
		}
		info, err := os.Stat(path) // follows links, as those of a mounted configMap
		if err != nil || !info.Mode().IsRegular() {
			complain(path, errors.Join(errors.New("not a regular file"), err))
			if old[path] != nil && err != nil && !errors.Is(err, os.ErrNotExist) {
				fresh[path] = old[path]
			}
			continue
		}
		stamp := fmt.Sprint(info.ModTime().UnixNano(), info.Size())
		if was := old[path]; was != nil && was.stamp == stamp {
			fresh[path] = was
			continue
		}
		p, err := readStatic(path, s.m.o.Node, info)
		if err != nil {
			complain(path, err)
			if old[path] != nil {
				fresh[path] = old[path]
			}
			continue
		}
		p.stamp = stamp
		fresh[path] = p
	}
	dropTwins(fresh, complain)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byFile, s.read = fresh, true
	maps.DeleteFunc(s.wrong, func(path, _ string) bool { return !wrong[path] })
	return !maps.EqualFunc(fresh, old, func(a, b *staticPod) bool { return a.object.Key == b.object.Key })
}

// dropTwins leaves one of the pods that have the same name: the one whose file comes first.
func dropTwins(all map[string]*staticPod, complain func(path string, err error)) {
	first := map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		name := all[path].object.Key.Namespace() + "/" + all[path].object.Key.Name()
		if other := first[name]; other != "" {
			complain(path, fmt.Errorf("%s holds a pod of the same name %s: give one of them another name", other, name))
			delete(all, path)
			continue
		}
		first[name] = path
	}
}

// complain says once what is wrong with a file, in the log and as an event of the node.
func (s *statics) complain(path string, err error) {
	s.mu.Lock()
	known := s.wrong[path] == err.Error()
	s.wrong[path] = err.Error()
	s.mu.Unlock()
	if known {
		return
	}
	s.m.o.Log.Error("a static pod's file cannot be used; a pod that it held before goes on, and so do all others", "file", path, "error", err)
	s.m.o.Events.Event(s.m.nodeRef(), eventWarning, reasonStatic, path+": "+err.Error())
}

// usable reports whether all files can be read, so that what they name is all that static pods want.
func (s *statics) usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read && len(s.wrong) == 0 && !s.blind.Load()
}

// specs returns what the static pods want.
func (s *statics) specs() []*corev1.PodSpec {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*corev1.PodSpec, 0, len(s.byFile))
	for _, p := range s.byFile {
		out = append(out, &p.pod.Spec)
	}
	return out
}

// objects returns the static pods in the form of desired objects.
func (s *statics) objects() []wire.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]wire.Object, 0, len(s.byFile))
	for _, p := range s.byFile {
		out = append(out, p.object)
	}
	return out
}

// has reports whether the key is a static pod's.
func (s *statics) has(key wire.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key) != nil
}

// find returns the static pod of that key. s.mu is held.
func (s *statics) find(key wire.Key) *staticPod {
	for _, p := range s.byFile {
		if p.object.Key == key {
			return p
		}
	}
	return nil
}

// readStatic reads one file.
func readStatic(path, node string, info os.FileInfo) (*staticPod, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(f, maxStaticFile+1))
	if err != nil {
		return nil, err
	}
	return parseStatic(text, path, node, info.ModTime())
}

// parseStatic makes a pod of a file's content.
func parseStatic(text []byte, path, node string, seen time.Time) (*staticPod, error) {
	if len(text) > maxStaticFile {
		return nil, fmt.Errorf("the file has more than %d bytes", maxStaticFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text)) // JSON is YAML, too
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("neither YAML nor JSON: %w", err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file holds more than one document: a file is one pod")
	}
	if doc["kind"] != "Pod" || doc["apiVersion"] != "v1" {
		return nil, fmt.Errorf("it is a %v of %v: only kind Pod of apiVersion v1 can be static", doc["kind"], doc["apiVersion"])
	}
	plain, err := json.Marshal(doc) // as an API server would have it: times and keys are strings
	if err != nil {
		return nil, fmt.Errorf("it has no JSON form: %w", err)
	}
	delete(doc, "status")
	meta, spec := member(doc, "metadata"), member(doc, "spec")
	name, _ := meta["name"].(string)
	namespace, _ := meta["namespace"].(string)
	setDefault(&namespace, "default")
	if name = name + "-" + strings.ToLower(node); !safeName(name) || !safeName(namespace) || strings.HasPrefix(name, "-") {
		return nil, errors.New("metadata.name is missing or no name")
	}
	sum := sha256.Sum256(slices.Concat([]byte(node+"\x00"+path+"\x00"), plain))
	uid := hex.EncodeToString(sum[:])[:uidDigits]
	for _, k := range []string{"resourceVersion", "managedFields", "ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"} {
		delete(meta, k)
	}
	meta["name"], meta["namespace"], meta["uid"] = name, namespace, uid
	annotations := member(meta, "annotations")
	delete(annotations, annoMirror)
	annotations[annoConfigSource], annotations[annoConfigHash], annotations[annoConfigSeen] = sourceFile, uid, seen.UTC().Format(time.RFC3339Nano)
	spec["nodeName"] = node
	tolerations, _ := spec["tolerations"].([]any)
	spec["tolerations"] = append(tolerations, map[string]any{"operator": "Exists", "effect": "NoExecute"})
	return makeStatic(doc, wire.NewKey(wire.KindPod, namespace, name, uid))
}

// makeStatic encodes a static pod, and the request for its mirror.
func makeStatic(doc map[string]any, key wire.Key) (*staticPod, error) {
	text, err := json.Marshal(canon.DropNulls(doc))
	if err != nil {
		return nil, fmt.Errorf("it has no JSON form: %w", err)
	}
	body, err := canon.FromJSON(text)
	if err != nil {
		return nil, fmt.Errorf("it cannot be encoded: %w", err)
	}
	p := &staticPod{object: wire.Object{Key: key, Version: wire.Version{UID: key.UID(), Hash: canon.Hash(body)}, Body: body}, pod: new(corev1.Pod)}
	if _, err := p.pod.UnmarshalMsg(body); err != nil {
		return nil, fmt.Errorf("it is not a pod: %w", err)
	}
	if usesReferences(&p.pod.Spec) || p.pod.Spec.ServiceAccountName != "" {
		return nil, errors.New("static pods cannot use configMaps, secrets, claims or service accounts: they must be able to run before the cluster was ever heard of; use hostPath volumes")
	}
	request, err := json.Marshal(map[string]any{"mirror": doc})
	if err == nil {
		p.request, err = canon.FromJSON(request)
	}
	if err != nil {
		return nil, fmt.Errorf("it cannot be encoded: %w", err)
	}
	return p, nil
}

// member returns a map's map, made if it is missing.
func member(doc map[string]any, name string) map[string]any {
	m, ok := doc[name].(map[string]any)
	if !ok {
		m = map[string]any{}
		doc[name] = m
	}
	return m
}
