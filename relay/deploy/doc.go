// Package deploy holds what runs relays in a Kubernetes cluster: a Helm chart (chart), and the same with the chart's default values as
// plain YAML for kubectl apply (skerry-relay.yaml, and autoscaling.yaml for clusters that have a metrics adapter).
//
// The plain files are rendered from the chart, and the chart's rights are made from relay/setup, which `skerryctl init` uses, too:
// `make generate` does both, and `make check` fails if something was changed by hand. docs/deploy.md says how to use them.
//
// Tests: unit tests here hold the chart's values to relay/config and its rights to relay/setup; hil-tests/deploy renders it with
// many values and gives all of it to a real API server, and runs a relay and an agent with the rights that it grants.
package deploy

//go:generate go run ./gen -out chart/files/rights.yaml
//go:generate go run -C ../../scripts/tools/helm . -chart ../../../relay/deploy/chart -out ../../../relay/deploy/skerry-relay.yaml -header "Made from relay/deploy/chart with its default values; see docs/deploy.md. Do not edit."
//go:generate go run -C ../../scripts/tools/helm . -chart ../../../relay/deploy/chart -values ../../../relay/deploy/autoscaling-values.yaml -only hpa.yaml -out ../../../relay/deploy/autoscaling.yaml -header "Made from relay/deploy/chart: scales by connected agents. It needs an adapter for pod metrics; see docs/deploy.md. Do not edit."
