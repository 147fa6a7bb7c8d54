package dmi

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/grpcwire"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/dmi"
)

// nothing is a cluster without devices.
type nothing struct{ c chan struct{} }

func (nothing) Get(wire.Key) (wire.Object, bool) { return wire.Object{}, false }
func (nothing) List(wire.Kind) []wire.Object     { return nil }
func (n nothing) C() <-chan struct{}             { return n.c }
func (nothing) Take() []wire.Key                 { return nil }

func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dmi") // t.TempDir may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func serve(t *testing.T, o Options) *Service {
	t.Helper()
	o.Desired, o.Watch = nothing{}, nothing{make(chan struct{})}
	s := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		want := os.FileMode(0o600)
		if len(o.UIDs)+len(o.GIDs) > 0 {
			want = 0o666
		}
		c, err := new(net.Dialer).DialContext(t.Context(), "unix", o.Socket)
		if err == nil {
			_ = c.Close()
			if st, err := os.Stat(o.Socket); err == nil && st.Mode().Perm() == want { // it gets its mode after it is there
				return s
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the socket is not there, or has not the mode %v: %v", want, err)
		}
	}
}

// ask registers a mapper through the agent's own client.
func ask(t *testing.T, socket string, req *mapperRegisterRequest) error {
	t.Helper()
	transport := grpcwire.NewTransport(func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", socket) })
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := grpcwire.NewRequest(ctx, managerService+"MapperRegister", "test", strings.NewReader(string(grpcwire.Frame(req))))
	if err != nil {
		t.Fatal(err)
	}
	a, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer a.Body.Close() //nolint:errcheck // nothing was written through it
	data, err := grpcwire.ReadFrame(a.Body, nil, 1<<20)
	if err == nil {
		_, _ = a.Body.Read(make([]byte, 1))
		return grpcwire.Unmarshal(data, new(mapperRegisterResponse))
	}
	code, message, err := grpcwire.Status(a)
	if err != nil {
		return err
	}
	return &grpcwire.StatusError{Code: code, Message: message}
}

func register(socket string) *mapperRegisterRequest {
	return &mapperRegisterRequest{true, &mapperInfo{Name: "m", Protocol: "demo", Address: []byte(socket)}}
}

func TestSocketAndState(t *testing.T) {
	dir := folder(t)
	o := Options{Socket: filepath.Join(dir, "dmi.sock"), StateFile: filepath.Join(dir, "state", "mappers.json")}
	s := serve(t, o)
	if st, err := os.Stat(o.Socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the socket: %v, %v", st.Mode(), err)
	}
	var err error
	for range 1000 { // the registry starts beside the socket
		if err = ask(t, o.Socket, register("/run/m.sock")); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if st := s.Registry.Status(); len(st) != 1 || st[0].Name != "m" || st[0].Address != "/run/m.sock" {
		t.Errorf("%+v", st)
	}
	again := New(Options{Socket: o.Socket, StateFile: o.StateFile, Desired: nothing{}, Watch: nothing{}})
	if st := again.Registry.Status(); len(st) != 1 || st[0].Name != "m" {
		t.Errorf("after a restart: %+v", st)
	}
	if err := os.WriteFile(o.StateFile, []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if st := New(Options{Socket: o.Socket, StateFile: o.StateFile, Desired: nothing{}, Watch: nothing{}}).Registry.Status(); len(st) != 0 {
		t.Errorf("from a file that is torn: %+v", st)
	}
}

func TestAdmits(t *testing.T) {
	s := New(Options{UIDs: []uint32{1001}, GIDs: []uint32{2002}, Desired: nothing{}, Watch: nothing{}})
	s.owner = 7
	for p, want := range map[peer]bool{
		{0, 0, true}: true, {7, 7, true}: true, {1001, 5, true}: true, {9, 2002, true}: true, {9, 9, true}: false, {2002, 1001, true}: false, {0, 0, false}: false,
	} {
		if s.admits(p) != want {
			t.Errorf("%+v: %v", p, !want)
		}
	}
}

// TestForeignSocket has a mapper name a socket that somebody else serves.
func TestForeignSocket(t *testing.T) {
	m := newMapper("/run/m.sock", 1001, 1<<20)
	for p, want := range map[peer]bool{{1001, 5, true}: true, {0, 0, true}: true, {1002, 1001, true}: false, {1001, 5, false}: false, {}: false} {
		if m.trusts(p) != want {
			t.Errorf("%+v: %v", p, !want)
		}
	}
}

// TestSocketForOthers lets others than root connect only where they are configured.
func TestSocketForOthers(t *testing.T) {
	o := Options{Socket: filepath.Join(folder(t), "dmi.sock"), UIDs: []uint32{4242}}
	serve(t, o)
	if st, err := os.Stat(o.Socket); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("mode of the socket: %v, %v", st.Mode(), err)
	}
}

// TestNoAnswer asks a mapper that is not there.
func TestNoAnswer(t *testing.T) {
	m := newMapper(filepath.Join(folder(t), "none"), uint32(os.Getuid()), 1<<20)
	_, err := m.Has(t.Context(), dmi.Device{Namespace: "default", Name: "a"})
	if err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}
