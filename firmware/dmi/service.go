package dmi

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/grpcwire"
	"github.com/skerry/skerry/firmware/localhttp"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/dmi"
)

// Desired is the view of what this node should run; *store.Desired implements it.
type Desired interface {
	Get(key wire.Key) (wire.Object, bool)
	List(kind wire.Kind) []wire.Object
}

// Watch tells that Desired has changed; *store.Watch implements it.
type Watch interface {
	C() <-chan struct{}
	Take() []wire.Key
}

// Options are a Service's. Socket, Desired and Watch are required.
type Options struct {
	Socket     string
	UIDs, GIDs []uint32 // who may use the socket, beside root and the agent's user
	MaxMessage int      // bytes; default 4 MiB, as grpc-go's
	Registry   dmi.Options
	Desired    Desired
	Watch      Watch
	StateFile  string // where the mappers that have registered are kept; empty: nowhere
	Log        *slog.Logger
}

// Service is the DMI of one agent.
type Service struct {
	// Registry is the driver's side.
	Registry *dmi.Registry

	opt   Options
	log   *slog.Logger
	owner uint32

	mu      sync.Mutex
	mappers map[string]*mapper // by protocol
}

const (
	managerService = "/v1beta1.DeviceManagerService/"
	readTime       = 10 * time.Second
	maxStreams     = 64 // calls at a time on one connection
)

// New returns a service. The mappers of earlier starts are taken over from the state file; one that cannot be read is no error: mappers register again.
func New(o Options) *Service {
	o.MaxMessage = cmp.Or(o.MaxMessage, 4<<20)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Service{opt: o, log: o.Log, owner: uint32(os.Getuid()), mappers: make(map[string]*mapper)} //nolint:gosec // the kernel's ids have 32 bits
	o.Registry.Log = o.Log
	if o.StateFile != "" {
		o.Registry.Save = s.save
	}
	s.Registry = dmi.NewRegistry(o.Registry)
	s.restore()
	return s
}

// Run serves until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Registry.Run(ctx) })
	wg.Go(func() { s.follow(ctx) })
	localhttp.Keep(ctx, s.log, "dmi.socket", s.listen, s.server)
	cancel()
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mappers {
		m.close()
	}
	return nil
}

func (s *Service) server() *http.Server {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: &grpcwire.Server{Methods: s.methods(), MaxRequest: s.opt.MaxMessage, ReadTime: readTime}, Protocols: &h2c,
		ReadHeaderTimeout: readTime, ConnContext: withPeer, MaxHeaderBytes: 16 << 10,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

func (s *Service) methods() map[string]grpcwire.Method {
	return map[string]grpcwire.Method{
		managerService + "MapperRegister":     {New: func() grpcwire.Message { return new(mapperRegisterRequest) }, Call: s.register},
		managerService + "ReportDeviceStatus": {New: func() grpcwire.Message { return new(reportStatusRequest) }, Call: s.reportStatus},
		managerService + "ReportDeviceStates": {New: func() grpcwire.Message { return new(reportStatesRequest) }, Call: s.reportStates},
	}
}

// statusOf is the gRPC status of an error of the registry.
func statusOf(err error) error {
	for _, x := range []struct {
		kind error
		code grpcwire.Code
	}{
		{dmi.ErrInvalid, grpcwire.InvalidArgument}, {dmi.ErrTaken, grpcwire.AlreadyExists}, {dmi.ErrNoDevice, grpcwire.NotFound},
		{dmi.ErrDenied, grpcwire.PermissionDenied}, {dmi.ErrTooMany, grpcwire.ResourceExhausted}, {dmi.ErrStopped, grpcwire.FailedPrecondition},
	} {
		if errors.Is(err, x.kind) {
			return grpcwire.Errorf(x.code, "%v", err)
		}
	}
	return err
}

// answerRoom is what an answer to MapperRegister may have: grpc-go's clients take 4 MiB if nobody says otherwise.
const answerRoom = 3 << 20

func (s *Service) register(ctx context.Context, req grpcwire.Message) (grpcwire.Message, error) {
	r := req.(*mapperRegisterRequest) //nolint:errcheck,forcetypeassert // methods pairs them
	if r.Mapper == nil {
		return nil, grpcwire.Errorf(grpcwire.InvalidArgument, "mapper: is missing: name, protocol and address are needed")
	}
	socket, err := socketOf(r.Mapper.Address)
	if err != nil {
		return nil, statusOf(err)
	}
	p := callerOf(ctx)
	m := newMapper(socket, p.uid, s.opt.MaxMessage)
	used := 0
	models, devices, err := s.Registry.Register(dmi.Registration{
		Name: r.Mapper.Name, Version: r.Mapper.Version, Protocol: r.Mapper.Protocol, Address: socket, Caller: dmi.Caller{UID: p.uid}, Mapper: m, Lost: m.lost,
	}, r.WithData, func(models []dmi.Model, devices []dmi.Device) bool {
		// Each call has one device more than the last one that fitted, and at most one model.
		d := deviceMessageOf(devices[len(devices)-1])
		mm := modelMessageOf(models[len(models)-1])
		size := len(grpcwire.Marshal(&d)) + len(grpcwire.Marshal(&mm)) + 16
		if used+size > min(answerRoom, s.opt.MaxMessage) {
			return false
		}
		used += size
		return true
	})
	if err != nil {
		return nil, statusOf(err)
	}
	s.replace(r.Mapper.Protocol, m)
	resp := new(mapperRegisterResponse)
	for _, x := range models {
		resp.Models = append(resp.Models, modelMessageOf(x))
	}
	for _, x := range devices {
		resp.Devices = append(resp.Devices, deviceMessageOf(x))
	}
	return resp, nil
}

func (s *Service) reportStatus(ctx context.Context, req grpcwire.Message) (grpcwire.Message, error) {
	r := req.(*reportStatusRequest) //nolint:errcheck,forcetypeassert // methods pairs them
	var twins []twinMessage
	if r.Reported != nil {
		twins = r.Reported.Twins
	}
	err := s.Registry.Report(dmi.Caller{UID: callerOf(ctx).uid}, cmp.Or(r.Namespace, defaultNamespace), r.Name, twinsOf(twins))
	if err != nil {
		return nil, statusOf(err)
	}
	return &empty{}, nil
}

func (s *Service) reportStates(ctx context.Context, req grpcwire.Message) (grpcwire.Message, error) {
	r := req.(*reportStatesRequest) //nolint:errcheck,forcetypeassert // methods pairs them
	if err := s.Registry.State(dmi.Caller{UID: callerOf(ctx).uid}, cmp.Or(r.Namespace, defaultNamespace), r.Name, r.State); err != nil {
		return nil, statusOf(err)
	}
	return &empty{}, nil
}
