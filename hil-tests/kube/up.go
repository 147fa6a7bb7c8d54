package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skerry/skerry/hil-tests/kube/pki"
)

const (
	serviceCIDR = "10.96.0.0/16"
	serviceIP   = "10.96.0.1" // the first of serviceCIDR belongs to the service "kubernetes"

	startTimeout = 3 * time.Minute // cold, on a machine where everything else compiles
	stopTimeout  = 15 * time.Second
)

// layout names the files below the state folder.
type layout string

func (l layout) pki() string   { return filepath.Join(string(l), "pki") }
func (l layout) etcd() string  { return filepath.Join(string(l), "etcd") }
func (l layout) lock() string  { return filepath.Join(string(l), "lock") }
func (l layout) port() string  { return filepath.Join(string(l), "port.json") }
func (l layout) ready() string { return filepath.Join(string(l), "ready.json") }
func (l layout) kubeconfig(who string) string {
	return filepath.Join(string(l), who+".kubeconfig")
}

// readiness is the content of ready.json. It is there only while the process
// PID runs and has been ready; a reader compares the PID with the child's.
type readiness struct {
	PID        int     `json:"pid"`
	URL        string  `json:"url"`
	Kubeconfig string  `json:"kubeconfig"`
	Version    string  `json:"version"`
	Seconds    float64 `json:"seconds"` // from the start of the process's work to ready
}

// run holds the control plane from start to stop. It returns nil if ctx ended
// it, and otherwise the first component's reason.
func run(ctx context.Context, opts options) error {
	started := time.Now()
	l := layout(opts.dir)
	if err := os.MkdirAll(opts.dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	unlock, err := lock(l.lock())
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(l.ready()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the mark of an earlier run: %w", err)
	}
	certs, err := pki.Ensure(l.pki(), serviceIP, started)
	if err != nil {
		return err
	}
	listener, err := listen(l.port(), opts.port)
	if err != nil {
		return err
	}
	defer listener.Close()
	url := "https://" + listener.Addr().String()
	for _, who := range []string{pki.Admin, pki.ControllerManager, pki.Scheduler} {
		if err := writeKubeconfig(l.kubeconfig(who), url, certs, who); err != nil {
			return err
		}
	}
	if err := setupLogs(opts.verbosity); err != nil {
		return err
	}
	p := &plane{dir: l, certs: certs, listener: listener, cidr: opts.cidr}
	sup := newSupervisor(ctx)
	err = p.start(sup)
	if err == nil {
		err = announce(opts, l, url, started)
	}
	return errors.Join(sup.wait(err), os.RemoveAll(l.ready()))
}

// announce tells the world that the control plane is ready.
func announce(opts options, l layout, url string, started time.Time) error {
	r := readiness{
		PID: os.Getpid(), URL: url, Kubeconfig: l.kubeconfig(pki.Admin), Version: kubeVersion(),
		Seconds: float64(time.Since(started).Milliseconds()) / 1000,
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := writeFile(l.ready(), data); err != nil {
		return fmt.Errorf("mark the control plane as ready: %w", err)
	}
	_, err = fmt.Fprintf(opts.out, "ready url=%s kubeconfig=%s version=%s seconds=%.2f\n", r.URL, r.Kubeconfig, r.Version, r.Seconds)
	return err
}

// lock takes the folder for this process. The kernel gives it back however the
// process ends, so a SIGKILL leaves nothing to clean up.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the state folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another skerry-kube runs on %s: stop it or choose another --dir", filepath.Dir(path))
		}
		return nil, fmt.Errorf("lock the state folder: %w", err)
	}
	return func() { f.Close() }, nil
}

// listen opens the API server's port: the wanted one, else the one recorded at
// path, else a free one; and records it.
func listen(path string, want int) (net.Listener, error) {
	if want == 0 {
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &want)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the port used before from %s (give --port to choose one): %w", path, err)
		}
	}
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", want))
	if err != nil {
		return nil, fmt.Errorf("open the API server's port (end the process that holds it, or give another --port): %w", err)
	}
	data, err := json.Marshal(ln.Addr().(*net.TCPAddr).Port)
	if err == nil {
		err = writeFile(path, data)
	}
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("record the API server's port: %w", err)
	}
	return ln, nil
}

// writeFile replaces path as a whole: a reader or a SIGKILL sees the old
// content or the new, never a part.
func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
