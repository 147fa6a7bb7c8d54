package dmi

import "github.com/skerry/skerry/firmware/grpcwire"

// Messages of v1beta1's api.proto, with the fields that the agent uses. pushMethod and model commands are left out: the agent
// pushes itself, and knows no commands (docs/dmi.md).

type mapperRegisterRequest struct {
	WithData bool
	Mapper   *mapperInfo
}

type mapperInfo struct {
	Name, Version, APIVersion, Protocol string
	Address                             []byte
	State                               string
}

type mapperRegisterResponse struct {
	Models  []deviceModel
	Devices []deviceMessage
}

type deviceModel struct {
	Name      string
	Spec      *modelSpec
	Namespace string
}

type modelSpec struct{ Properties []modelProperty }

type modelProperty struct {
	Name, Description, Type, AccessMode, Minimum, Maximum, Unit string
}

type deviceMessage struct {
	Name      string
	Spec      *deviceSpec
	Namespace string
}

type deviceSpec struct {
	Model      string
	Protocol   *protocolConfig
	Properties []deviceProperty
	Methods    []deviceMethod
}

type deviceMethod struct {
	Name, Description string
	Properties        []string
}

type deviceProperty struct {
	Name                      string
	Desired                   *twinProperty
	Visitors                  *protocolConfig
	ReportCycle, CollectCycle int64
	ReportToCloud             bool
}

// protocolConfig is ProtocolConfig and VisitorConfig, which have the same fields.
type protocolConfig struct {
	Name string
	Data *customizedValue
}

type customizedValue struct{ Data []anyEntry }

// anyEntry is an entry of a map<string, google.protobuf.Any>.
type anyEntry struct {
	Key   string
	Value *anyMessage
}

type anyMessage struct {
	TypeURL string
	Value   []byte
}

type reportStatusRequest struct {
	Name      string
	Reported  *deviceStatus
	Namespace string
}

type reportStatesRequest struct{ Name, Namespace, State string }

type deviceStatus struct{ Twins []twinMessage }

type twinMessage struct {
	Property string
	Reported *twinProperty
}

type twinProperty struct {
	Value    string
	Metadata map[string]string
}

// objectRequest is every request that only names an object: RemoveDevice, RemoveDeviceModel, GetDevice.
type objectRequest struct{ Name, Namespace string }

// deviceRequest is RegisterDevice, UpdateDevice, and the answer of GetDevice.
type deviceRequest struct{ Device *deviceMessage }

// modelRequest is CreateDeviceModel and UpdateDeviceModel.
type modelRequest struct{ Model *deviceModel }

// empty is every answer of which nothing is used.
type empty struct{}

func (m *mapperRegisterRequest) Walk(f *grpcwire.Fields) {
	f.Bool(1, &m.WithData)
	grpcwire.Opt(f, 2, &m.Mapper)
}

func (m *mapperInfo) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	f.Str(2, &m.Version)
	f.Str(3, &m.APIVersion)
	f.Str(4, &m.Protocol)
	f.Bytes(5, &m.Address)
	f.Str(6, &m.State)
}

func (m *mapperRegisterResponse) Walk(f *grpcwire.Fields) {
	grpcwire.Rep(f, 1, &m.Models)
	grpcwire.Rep(f, 2, &m.Devices)
}

func (m *deviceModel) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	grpcwire.Opt(f, 2, &m.Spec)
	f.Str(3, &m.Namespace)
}

func (m *modelSpec) Walk(f *grpcwire.Fields) { grpcwire.Rep(f, 1, &m.Properties) }

func (m *modelProperty) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	f.Str(2, &m.Description)
	f.Str(3, &m.Type)
	f.Str(4, &m.AccessMode)
	f.Str(5, &m.Minimum)
	f.Str(6, &m.Maximum)
	f.Str(7, &m.Unit)
}

func (m *deviceMessage) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	grpcwire.Opt(f, 2, &m.Spec)
	f.Str(4, &m.Namespace)
}

func (m *deviceSpec) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Model)
	grpcwire.Opt(f, 2, &m.Protocol)
	grpcwire.Rep(f, 3, &m.Properties)
	grpcwire.Rep(f, 4, &m.Methods)
}

func (m *deviceMethod) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	f.Str(2, &m.Description)
	f.Strs(3, &m.Properties)
}

func (m *deviceProperty) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	grpcwire.Opt(f, 2, &m.Desired)
	grpcwire.Opt(f, 3, &m.Visitors)
	grpcwire.Num(f, 4, &m.ReportCycle)
	grpcwire.Num(f, 5, &m.CollectCycle)
	f.Bool(6, &m.ReportToCloud)
}

func (m *protocolConfig) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	grpcwire.Opt(f, 2, &m.Data)
}

func (m *customizedValue) Walk(f *grpcwire.Fields) { grpcwire.Rep(f, 1, &m.Data) }

func (m *anyEntry) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Key)
	grpcwire.Opt(f, 2, &m.Value)
}

func (m *anyMessage) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.TypeURL)
	f.Bytes(2, &m.Value)
}

func (m *reportStatusRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	grpcwire.Opt(f, 2, &m.Reported)
	f.Str(3, &m.Namespace)
}

func (m *reportStatesRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	f.Str(2, &m.Namespace)
	f.Str(3, &m.State)
}

func (m *deviceStatus) Walk(f *grpcwire.Fields) { grpcwire.Rep(f, 1, &m.Twins) }

func (m *twinMessage) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Property)
	grpcwire.Opt(f, 3, &m.Reported)
}

func (m *twinProperty) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Value)
	f.StrMap(2, &m.Metadata)
}

func (m *objectRequest) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Name)
	f.Str(2, &m.Namespace)
}

func (m *deviceRequest) Walk(f *grpcwire.Fields) { grpcwire.Opt(f, 1, &m.Device) }

func (m *modelRequest) Walk(f *grpcwire.Fields) { grpcwire.Opt(f, 1, &m.Model) }

func (*empty) Walk(*grpcwire.Fields) {}
