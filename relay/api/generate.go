package api

//go:generate go tool -modfile=../../scripts/tools/go.mod controller-gen object paths=./devices/... crd:crdVersions=v1 output:crd:dir=./crds
