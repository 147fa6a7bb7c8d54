package dmi_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dmi "github.com/kubeedge/api/apis/dmi/v1beta1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// peer is a mapper made of KubeEdge's generated client and server.
type peer struct {
	dmi.UnimplementedDeviceMapperServiceServer
	manager dmi.DeviceManagerServiceClient
	conn    *grpc.ClientConn
	server  *grpc.Server
	socket  string

	mu      sync.Mutex
	devices map[string]*dmi.Device
	models  map[string]*dmi.DeviceModel
	calls   []string
	wedged  chan struct{} // calls wait for it; nil: they do not
}

// startPeer starts a mapper's process, as far as the agent can see.
func startPeer(t *testing.T, g *gateway, socket string) *peer {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+g.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{manager: dmi.NewDeviceManagerServiceClient(conn), conn: conn, socket: filepath.Join(g.dir, socket), devices: map[string]*dmi.Device{}, models: map[string]*dmi.DeviceModel{}}
	p.serve(t)
	t.Cleanup(p.stop)
	return p
}

func (p *peer) serve(t *testing.T) {
	t.Helper()
	_ = os.Remove(p.socket)
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	p.server = grpc.NewServer()
	dmi.RegisterDeviceMapperServiceServer(p.server, p)
	go p.server.Serve(l) //nolint:errcheck // ends with Stop
}

func (p *peer) stop() {
	p.mu.Lock()
	if p.wedged != nil {
		close(p.wedged)
		p.wedged = nil
	}
	p.mu.Unlock()
	p.server.Stop()
	_ = p.conn.Close()
}

func (p *peer) register(ctx context.Context, name, protocol string) (*dmi.MapperRegisterResponse, error) {
	r, err := p.manager.MapperRegister(ctx, &dmi.MapperRegisterRequest{WithData: true, Mapper: &dmi.MapperInfo{
		Name: name, Version: "v1.13.0", ApiVersion: "v1.0.0", Protocol: protocol, Address: []byte(p.socket), State: "ok",
	}}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range r.ModelList {
		p.models[m.Namespace+"/"+m.Name] = m
	}
	for _, d := range r.DeviceList {
		p.devices[d.Name] = d
	}
	return r, nil
}

func (p *peer) mustRegister(t *testing.T, name, protocol string) *dmi.MapperRegisterResponse {
	t.Helper()
	r, err := p.register(t.Context(), name, protocol)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// called notes a call, and waits if the mapper is wedged.
func (p *peer) called(ctx context.Context, name string) error {
	p.mu.Lock()
	p.calls = append(p.calls, name)
	wedged := p.wedged
	p.mu.Unlock()
	if wedged != nil {
		<-wedged // it does not even look at the context
		return ctx.Err()
	}
	return nil
}

func (p *peer) wedge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wedged = make(chan struct{})
}

func (p *peer) unwedge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.wedged)
	p.wedged = nil
}

// took returns the calls since the last took, without GetDevice.
func (p *peer) took() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, c := range p.calls {
		if !strings.HasPrefix(c, "GetDevice") {
			out = append(out, c)
		}
	}
	p.calls = nil
	return strings.Join(out, ", ")
}

func (p *peer) device(name string) *dmi.Device {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.devices[name]; d != nil {
		return proto.Clone(d).(*dmi.Device)
	}
	return nil
}

func (p *peer) desired(name, property string) string {
	for _, x := range p.device(name).GetSpec().GetProperties() {
		if x.Name == property {
			return x.GetDesired().GetValue()
		}
	}
	return ""
}

func (p *peer) put(d *dmi.Device) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.models[d.Namespace+"/"+d.GetSpec().GetDeviceModelReference()] == nil {
		return status.Error(codes.NotFound, "the device comes before its model")
	}
	p.devices[d.Name] = d
	return nil
}

func (p *peer) RegisterDevice(ctx context.Context, r *dmi.RegisterDeviceRequest) (*dmi.RegisterDeviceResponse, error) {
	if err := p.called(ctx, "RegisterDevice "+r.Device.Name); err != nil {
		return nil, err
	}
	return &dmi.RegisterDeviceResponse{DeviceName: r.Device.Name, DeviceNamespace: r.Device.Namespace}, p.put(r.Device)
}

func (p *peer) UpdateDevice(ctx context.Context, r *dmi.UpdateDeviceRequest) (*dmi.UpdateDeviceResponse, error) {
	if err := p.called(ctx, "UpdateDevice "+r.Device.Name); err != nil {
		return nil, err
	}
	return &dmi.UpdateDeviceResponse{}, p.put(r.Device)
}

func (p *peer) RemoveDevice(ctx context.Context, r *dmi.RemoveDeviceRequest) (*dmi.RemoveDeviceResponse, error) {
	if err := p.called(ctx, "RemoveDevice "+r.DeviceName); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.devices, r.DeviceName)
	return &dmi.RemoveDeviceResponse{}, nil
}

func (p *peer) model(m *dmi.DeviceModel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.models[m.Namespace+"/"+m.Name] = m
}

func (p *peer) CreateDeviceModel(ctx context.Context, r *dmi.CreateDeviceModelRequest) (*dmi.CreateDeviceModelResponse, error) {
	if err := p.called(ctx, "CreateDeviceModel "+r.Model.Name); err != nil {
		return nil, err
	}
	p.model(r.Model)
	return &dmi.CreateDeviceModelResponse{DeviceModelName: r.Model.Name, DeviceModelNamespace: r.Model.Namespace}, nil
}

func (p *peer) UpdateDeviceModel(ctx context.Context, r *dmi.UpdateDeviceModelRequest) (*dmi.UpdateDeviceModelResponse, error) {
	if err := p.called(ctx, "UpdateDeviceModel "+r.Model.Name); err != nil {
		return nil, err
	}
	p.model(r.Model)
	return &dmi.UpdateDeviceModelResponse{}, nil
}

func (p *peer) RemoveDeviceModel(ctx context.Context, r *dmi.RemoveDeviceModelRequest) (*dmi.RemoveDeviceModelResponse, error) {
	if err := p.called(ctx, "RemoveDeviceModel "+r.ModelName); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.models, r.ModelNamespace+"/"+r.ModelName)
	return &dmi.RemoveDeviceModelResponse{}, nil
}

func (p *peer) GetDevice(ctx context.Context, r *dmi.GetDeviceRequest) (*dmi.GetDeviceResponse, error) {
	if err := p.called(ctx, "GetDevice "+r.DeviceName); err != nil {
		return nil, err
	}
	if d := p.device(r.DeviceName); d != nil {
		return &dmi.GetDeviceResponse{Device: d}, nil
	}
	return nil, status.Error(codes.NotFound, "no such device")
}

// report reports one value, with KubeEdge's metadata.
func (p *peer) report(ctx context.Context, name, property, value string) error {
	at := map[string]string{"timestamp": strconv.FormatInt(time.Now().UnixMilli(), 10), "type": "INT"}
	_, err := p.manager.ReportDeviceStatus(ctx, &dmi.ReportDeviceStatusRequest{DeviceName: name, DeviceNamespace: "default", ReportedDevice: &dmi.DeviceStatus{Twins: []*dmi.Twin{{
		PropertyName: property, Reported: &dmi.TwinProperty{Value: value, Metadata: at}, ObservedDesired: &dmi.TwinProperty{Value: "", Metadata: at},
	}}}})
	return err
}

func (p *peer) mustReport(t *testing.T, name, property, value string) {
	t.Helper()
	if err := p.report(t.Context(), name, property, value); err != nil {
		t.Fatal(err)
	}
}
