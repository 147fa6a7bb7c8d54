package opcuapeer

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

//go:embed server.js
var script []byte

//go:embed types.xml
var types []byte

// readyLimit bounds how long the server may take to start on a loaded machine.
const readyLimit = 90 * time.Second

// The user that the server knows.
const (
	User     = "operator"
	Password = "s3cret-ü"
)

// ApplicationURI is the server's.
const ApplicationURI = "urn:skerry:peer"

// Namespace is that of the test nodes.
const Namespace = "urn:skerry:test"

// Options say how to run the peer; only Folder is required.
type Options struct {
	Folder        string         // for its certificates and scripts; the caller removes it
	Modules       string         // the node_modules that make opcua-peers has filled; default: that of SKERRY_BIN or of build/bin
	Port          int            // default a free one
	Log           string         // file that the server's output is appended to; discarded if empty
	Limits        map[string]int // operation limits over the defaults, e.g. maxNodesPerRead
	Many          int            // how many nodes are in the folder Many; default 2001
	Conformance   bool           // with the address space for conformance tests
	NoAnonymous   bool           // every user must prove who it is
	StrictClients bool           // clients' certificates must be trusted first (TrustClient)
	Certificate   *Certificate   // default one that is valid for a year
}

// Peer is a running server. The caller of Start calls Stop.
type Peer struct {
	opt     Options
	control int

	mu   sync.Mutex
	proc *process.Process
	cert *Certificate
}

// modules finds node-opcua.
func modules(dir string) (string, error) {
	if dir == "" {
		bin := os.Getenv("SKERRY_BIN")
		if bin == "" {
			bin = filepath.Join("..", "..", "build", "bin")
		}
		dir = filepath.Join(bin, "opcua-peers", "node_modules")
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "node-opcua", "package.json"))
	}
	if err != nil {
		return "", fmt.Errorf("find node-opcua (run make opcua-peers): %w", err)
	}
	return dir, nil
}

// Start runs the server and waits until it answers. ctx bounds the start only.
func Start(ctx context.Context, opt Options) (*Peer, error) {
	var err error
	if opt.Modules, err = modules(opt.Modules); err != nil {
		return nil, err
	}
	ports, err := freePorts(ctx)
	if err != nil {
		return nil, fmt.Errorf("find free ports for the OPC UA peer: %w", err)
	}
	if opt.Port == 0 {
		opt.Port = ports[0]
	}
	p := &Peer{opt: opt, control: ports[1], cert: opt.Certificate}
	for name, content := range map[string][]byte{"server.js": script, "types.xml": types} {
		if err := os.WriteFile(filepath.Join(opt.Folder, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	if p.cert == nil {
		now := time.Now()
		if p.cert, err = NewCertificate(ApplicationURI, now.Add(-time.Hour), now.AddDate(1, 0, 0)); err != nil {
			return nil, err
		}
	}
	return p, p.Restart(ctx)
}

func freePorts(ctx context.Context) (ports [2]int, err error) {
	for i := range ports {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return ports, err
		}
		defer ln.Close() // both are held until both are found
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// UseCertificate gives the server another certificate from the next Restart on.
func (p *Peer) UseCertificate(c *Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cert = c
}

// Certificate returns the one that the server has, or gets at the next Restart.
func (p *Peer) Certificate() *Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cert
}

// Restart runs the server again, on the same port and with fresh values, after Kill or Stop.
func (p *Peer) Restart(ctx context.Context) error {
	certFile, keyFile, err := p.Certificate().write(p.opt.Folder)
	if err != nil {
		return err
	}
	arg, err := json.Marshal(map[string]any{
		"port": p.opt.Port, "control": p.control, "dir": p.opt.Folder, "certificate": certFile, "key": keyFile, "applicationURI": ApplicationURI,
		"limits": p.opt.Limits, "many": p.opt.Many, "conformance": p.opt.Conformance, "noAnonymous": p.opt.NoAnonymous, "strictClients": p.opt.StrictClients,
	})
	if err != nil {
		return err
	}
	proc, err := process.Start(process.Spec{
		Name: "node-opcua", Path: "node", Args: []string{filepath.Join(p.opt.Folder, "server.js"), string(arg)},
		Env: []string{"NODE_PATH=" + p.opt.Modules}, Dir: p.opt.Folder, Log: p.opt.Log, Grace: 5 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("start the OPC UA peer (is Node.js installed?): %w", err)
	}
	p.mu.Lock()
	p.proc = proc
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	err = process.WaitReady(ctx, proc, "the OPC UA peer answers", nil, func(ctx context.Context) error {
		_, err := p.Stats(ctx)
		return err
	})
	if err != nil {
		return errors.Join(err, proc.Kill())
	}
	return nil
}

func (p *Peer) process() *process.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proc
}

// Addr returns host:port.
func (p *Peer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.opt.Port)) }

// URL returns the endpoint URL.
func (p *Peer) URL() string { return "opc.tcp://" + p.Addr() }

// PID returns the process id of the server.
func (p *Peer) PID() int { return p.process().PID() }

// Stop ends the server.
func (p *Peer) Stop() error {
	if err := p.process().Signal(syscall.SIGCONT); err != nil { // a paused one cannot end
		return p.process().Kill()
	}
	return p.process().Stop()
}

// Kill ends the server with SIGKILL, as if the device lost power.
func (p *Peer) Kill() error { return p.process().Kill() }

// Pause stops the server with SIGSTOP: the kernel still accepts connections, and nothing answers.
func (p *Peer) Pause() error { return p.process().Signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (p *Peer) Resume() error { return p.process().Signal(syscall.SIGCONT) }

// Held is what a variable holds. Of Value: numbers are json.Number, 64-bit integers decimal text, bytes base64, times
// milliseconds since 1970, and what is not finite is NaN, Inf or -Inf.
type Held struct {
	Type       string `json:"type"`
	Array      bool   `json:"array"`
	Dimensions []int  `json:"dimensions"`
	Value      any    `json:"value"`
}

// Get returns what a variable holds at the server.
func (p *Peer) Get(ctx context.Context, node string) (Held, error) {
	var h Held
	return h, p.ask(ctx, "/get", url.Values{"node": {node}}, &h)
}

// Set changes a variable at the server; value must suit its type in JSON.
func (p *Peer) Set(ctx context.Context, node string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return p.ask(ctx, "/set", url.Values{"node": {node}, "value": {string(text)}}, &struct{}{})
}

// SetStatus gives a variable another status, e.g. UncertainLastUsableValue.
func (p *Peer) SetStatus(ctx context.Context, node, status string) error {
	return p.ask(ctx, "/set", url.Values{"node": {node}, "status": {status}}, &struct{}{})
}

// Forget removes all subscriptions at the server and tells no client; it returns how many there were.
func (p *Peer) Forget(ctx context.Context) (int, error) {
	var out struct{ Forgotten int }
	return out.Forgotten, p.ask(ctx, "/forget", nil, &out)
}

// Logout ends all sessions at the server; it returns how many there were.
func (p *Peer) Logout(ctx context.Context) (int, error) {
	var out struct{ Closed int }
	return out.Closed, p.ask(ctx, "/logout", nil, &out)
}

// Stats are the server's counters.
type Stats struct {
	Sessions, Subscriptions, Items, Requests, BytesRead, BytesWritten int64
}

// Stats returns the server's counters since it started.
func (p *Peer) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	return s, p.ask(ctx, "/stats", nil, &s)
}

// ask calls the server's control port.
func (p *Peer) ask(ctx context.Context, path string, query url.Values, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	u := url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.control)), Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Close = true // no connection is left to be closed
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the OPC UA peer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // for the message
		return fmt.Errorf("the OPC UA peer refuses %s: %s", u.RequestURI(), text)
	}
	dec := json.NewDecoder(resp.Body)
	dec.UseNumber()
	return dec.Decode(out)
}
