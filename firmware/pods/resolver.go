package pods

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/skerry/skerry/firmware/durable"
)

// resolverFileName is where the node's resolver configuration is kept, below Options.Dir, as it was when it last named a server.
const resolverFileName = "resolv.conf"

// maxResolvConf bounds what is read of a resolver configuration; the rest of a larger file does not count.
const maxResolvConf = 64 << 10

// resolver knows the node's resolvers. A gateway that starts without its cable, or before DHCP has answered, names none, and what pods are started with
// they keep: they get those that it named last. It is safe for concurrent use. The zero value remembers nothing.
type resolver struct {
	path string // of the file that remembers; empty: none does
	log  *slog.Logger

	mu   sync.Mutex
	last []byte // what the file has; nil: not read yet
}

// read returns the configuration at path, or what is remembered if it names no server. It remembers one that does.
func (r *resolver) read(path string) (text []byte, remembered bool, err error) {
	text, err = readLimited(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if r == nil || r.path == "" {
		return text, false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		if r.last, err = readLimited(r.path); err != nil {
			r.last = []byte{}
		}
	}
	if len(parseResolvConf(text).Servers) == 0 {
		if len(parseResolvConf(r.last).Servers) == 0 {
			return text, false, nil
		}
		return bytes.Clone(r.last), true, nil
	}
	if !bytes.Equal(text, r.last) {
		r.last = bytes.Clone(text)
		if err := durable.Replace(r.path, text, 0o644); err != nil {
			r.log.Warn("the gateway's resolvers cannot be remembered: pods that start when it names none have none", "path", r.path, "error", err)
		}
	}
	return text, false, nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // an option, or a file of the agent's own
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxResolvConf))
}

// rememberResolver looks at the node's resolver configuration, because one that no pod is started with is to be remembered, too.
func (m *Manager) rememberResolver() {
	_, _, _ = m.resolver.read(resolverFile(m.o.ResolvConf, etcResolvConf, resolvedConf)) // whoever starts a pod is told
}
