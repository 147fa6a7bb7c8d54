// Command example is a mapper for the protocol "demo": a thermostat that exists in memory. It is what docs/dmi.md explains, and a start for mappers
// of real devices: put your protocol in the place of thermostat.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	dmi "github.com/kubeedge/api/apis/dmi/v1beta1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func main() {
	agent := flag.String("dmi", "/run/skerry/dmi.sock", "the agent's DMI socket")
	own := flag.String("socket", "/run/skerry-demo-mapper.sock", "the socket that this mapper serves")
	protocol := flag.String("protocol", "demo", "the protocolName of its Devices")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *agent, *own, *protocol); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, agent, own, protocol string) error {
	conn, err := grpc.NewClient("unix://"+agent, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	m := &mapper{agent: dmi.NewDeviceManagerServiceClient(conn), devices: map[string]*thermostat{}, models: map[string]*dmi.DeviceModel{}}
	defer m.stopAll()

	// 1. Serve our side first, so that the agent can call as soon as we have registered.
	_ = os.Remove(own)
	l, err := net.Listen("unix", own)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	dmi.RegisterDeviceMapperServiceServer(server, m)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer server.Stop()

	// 2. Register, and take over the devices that are there already. Try until the agent is up.
	for {
		answer, err := m.agent.MapperRegister(ctx, &dmi.MapperRegisterRequest{WithData: true, Mapper: &dmi.MapperInfo{
			Name: protocol + "-mapper", Version: "v1.0.0", ApiVersion: "v1beta1", Protocol: protocol, Address: []byte(own), State: "ok",
		}})
		if err == nil {
			for _, model := range answer.ModelList {
				m.putModel(model)
			}
			for _, d := range answer.DeviceList {
				m.putDevice(d)
			}
			log.Printf("registered; %d devices", len(answer.DeviceList))
			break
		}
		log.Printf("register: %v; trying again", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return err
	}
}

// mapper is our side of the interface. The agent makes one call at a time; answer within five seconds.
type mapper struct {
	dmi.UnimplementedDeviceMapperServiceServer
	agent dmi.DeviceManagerServiceClient

	mu      sync.Mutex
	devices map[string]*thermostat
	models  map[string]*dmi.DeviceModel
}

func key(namespace, name string) string { return namespace + "/" + name }

func (m *mapper) putModel(model *dmi.DeviceModel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.models[key(model.Namespace, model.Name)] = model
}

// putDevice starts a device, or gives a new version of it to the one that runs: it is not restarted.
func (m *mapper) putDevice(d *dmi.Device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := key(d.Namespace, d.Name)
	if t := m.devices[k]; t != nil {
		t.apply(d)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	t := &thermostat{stop: stop, done: make(chan struct{}), temperature: 20, setpoint: 20}
	t.apply(d)
	m.devices[k] = t
	go t.run(ctx, m.agent)
}

func (m *mapper) remove(k string) {
	m.mu.Lock()
	t := m.devices[k]
	delete(m.devices, k)
	m.mu.Unlock()
	if t != nil {
		t.stop()
		<-t.done
	}
}

func (m *mapper) stopAll() {
	m.mu.Lock()
	keys := make([]string, 0, len(m.devices))
	for k := range m.devices {
		keys = append(keys, k)
	}
	m.mu.Unlock()
	for _, k := range keys {
		m.remove(k)
	}
}

func (m *mapper) RegisterDevice(_ context.Context, r *dmi.RegisterDeviceRequest) (*dmi.RegisterDeviceResponse, error) {
	if r.GetDevice().GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "device.name is missing")
	}
	m.putDevice(r.Device)
	return &dmi.RegisterDeviceResponse{DeviceName: r.Device.Name, DeviceNamespace: r.Device.Namespace}, nil
}

func (m *mapper) UpdateDevice(_ context.Context, r *dmi.UpdateDeviceRequest) (*dmi.UpdateDeviceResponse, error) {
	if r.GetDevice().GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "device.name is missing")
	}
	m.putDevice(r.Device)
	return &dmi.UpdateDeviceResponse{}, nil
}

func (m *mapper) RemoveDevice(_ context.Context, r *dmi.RemoveDeviceRequest) (*dmi.RemoveDeviceResponse, error) {
	m.remove(key(r.DeviceNamespace, r.DeviceName))
	return &dmi.RemoveDeviceResponse{}, nil
}

func (m *mapper) GetDevice(_ context.Context, r *dmi.GetDeviceRequest) (*dmi.GetDeviceResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.devices[key(r.DeviceNamespace, r.DeviceName)]
	if t == nil {
		return nil, status.Errorf(codes.NotFound, "no device %s/%s", r.DeviceNamespace, r.DeviceName)
	}
	return &dmi.GetDeviceResponse{Device: t.device()}, nil
}

func (m *mapper) CreateDeviceModel(_ context.Context, r *dmi.CreateDeviceModelRequest) (*dmi.CreateDeviceModelResponse, error) {
	m.putModel(r.GetModel())
	return &dmi.CreateDeviceModelResponse{DeviceModelName: r.GetModel().GetName(), DeviceModelNamespace: r.GetModel().GetNamespace()}, nil
}

func (m *mapper) UpdateDeviceModel(_ context.Context, r *dmi.UpdateDeviceModelRequest) (*dmi.UpdateDeviceModelResponse, error) {
	m.putModel(r.GetModel())
	return &dmi.UpdateDeviceModelResponse{}, nil
}

func (m *mapper) RemoveDeviceModel(_ context.Context, r *dmi.RemoveDeviceModelRequest) (*dmi.RemoveDeviceModelResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.models, key(r.ModelNamespace, r.ModelName))
	return &dmi.RemoveDeviceModelResponse{}, nil
}

// thermostat is the device: its temperature follows its setpoint.
type thermostat struct {
	stop context.CancelFunc
	done chan struct{}

	mu                    sync.Mutex
	spec                  *dmi.Device
	temperature, setpoint float64
	step                  float64 // configData of the device: degrees in a cycle
}

func (t *thermostat) device() *dmi.Device {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.spec
}

// apply takes over a version of the device: its configuration and its desired values.
func (t *thermostat) apply(d *dmi.Device) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spec, t.step = d, 1
	if step, err := number(d, "step"); err == nil {
		t.step = step
	}
	for _, p := range d.GetSpec().GetProperties() {
		if p.GetName() == "setpoint" && p.GetDesired().GetValue() != "" {
			if v, err := strconv.ParseFloat(p.GetDesired().GetValue(), 64); err == nil {
				t.setpoint = v // a real mapper writes it to the device here
			}
		}
	}
}

// number reads a field of the device's configData: each is a google.protobuf.Any of a wrapper.
func number(d *dmi.Device, field string) (float64, error) {
	a := d.GetSpec().GetProtocol().GetConfigData().GetData()[field]
	if a == nil {
		return 0, fmt.Errorf("configData.%s is missing", field)
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		return 0, err
	}
	switch v := m.(type) {
	case *wrapperspb.Int64Value:
		return float64(v.Value), nil
	case *wrapperspb.DoubleValue:
		return v.Value, nil
	case *wrapperspb.StringValue:
		return strconv.ParseFloat(v.Value, 64)
	}
	return 0, fmt.Errorf("configData.%s is no number", field)
}

// cycle is the shortest collectCycle of the properties.
func (t *thermostat) cycle() time.Duration {
	ms := int64(1000)
	for i, p := range t.spec.GetSpec().GetProperties() {
		if c := p.GetCollectCycle(); c > 0 && (i == 0 || c < ms) {
			ms = c
		}
	}
	return time.Duration(ms) * time.Millisecond
}

// run reads the device once a cycle and reports it.
func (t *thermostat) run(ctx context.Context, agent dmi.DeviceManagerServiceClient) {
	defer close(t.done)
	for {
		t.mu.Lock()
		t.temperature += math.Copysign(min(t.step, math.Abs(t.setpoint-t.temperature)), t.setpoint-t.temperature)
		request := &dmi.ReportDeviceStatusRequest{DeviceName: t.spec.Name, DeviceNamespace: t.spec.Namespace, ReportedDevice: &dmi.DeviceStatus{
			Twins: []*dmi.Twin{twin("temperature", t.temperature), twin("setpoint", t.setpoint)},
		}}
		wait := t.cycle()
		t.mu.Unlock()
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		if _, err := agent.ReportDeviceStatus(call, request); err != nil && ctx.Err() == nil {
			log.Printf("report %s: %v", request.DeviceName, err) // the next cycle reports again
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func twin(property string, v float64) *dmi.Twin {
	return &dmi.Twin{PropertyName: property, Reported: &dmi.TwinProperty{
		Value:    strconv.FormatFloat(v, 'f', -1, 64),
		Metadata: map[string]string{"timestamp": strconv.FormatInt(time.Now().UnixMilli(), 10)},
	}}
}
