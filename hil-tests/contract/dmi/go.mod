module github.com/skerry/skerry/hil-tests/contract/dmi

go 1.26.0

replace github.com/skerry/skerry => ../../..

require (
	github.com/kubeedge/api v1.23.0
	github.com/skerry/skerry v0.0.0-00010101000000-000000000000
	github.com/tinylib/msgp v1.6.5
	google.golang.org/grpc v1.82.1
	google.golang.org/protobuf v1.36.12-0.20260120151049-f2248ac996af
)

require (
	github.com/philhofer/fwd v1.2.0 // indirect
	golang.org/x/net v0.57.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.40.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260414002931-afd174a4e478 // indirect
)

// KubeEdge's module asks for two modules at v0.0.0 and replaces them in its own go.mod; nothing here imports them.
replace (
	k8s.io/component-helpers => k8s.io/component-helpers v0.37.2
	k8s.io/controller-manager => k8s.io/controller-manager v0.37.2
)
