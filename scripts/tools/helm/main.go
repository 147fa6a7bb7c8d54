// Command helm renders a Helm chart to plain YAML with Helm's own engine: values are checked against values.schema.json, objects
// come in the order in which Helm installs them, and the output is the same for the same chart.
//
//	go run . -chart ../../../relay/deploy/chart -namespace skerry-system -out ../../../relay/deploy/skerry-relay.yaml
//	go run . -chart … -values mine.yaml -kubeconfig admin.kubeconfig    # as `helm install` would, with lookups in the cluster
//
// It is a module of its own so that nothing that Skerry ships depends on Helm. `make generate` runs it; relay/deploy and
// hil-tests/deploy test what it makes.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
)

type options struct {
	chart, values, out      string
	release, namespace      string
	only, notes, kubeconfig string
	header                  string
}

func main() {
	var o options
	flag.StringVar(&o.chart, "chart", "", "`folder` of the chart")
	flag.StringVar(&o.values, "values", "", "YAML `file` with values over the chart's own")
	flag.StringVar(&o.out, "out", "", "`file` to write; default: standard output")
	flag.StringVar(&o.release, "release", "skerry-relay", "`name` of the release")
	flag.StringVar(&o.namespace, "namespace", "skerry-system", "`namespace` of the release")
	flag.StringVar(&o.only, "only", "", "one template's `name`, such as hpa.yaml; default: all")
	flag.StringVar(&o.notes, "notes", "", "write NOTES.txt to `file`, too")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "`file`: let templates look up what the cluster has; default: there is none")
	flag.StringVar(&o.header, "header", "", "`text` of a comment at the top")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "helm:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	text, notes, err := render(o)
	if err != nil {
		return err
	}
	if o.notes != "" {
		if err := os.WriteFile(o.notes, notes, 0o644); err != nil {
			return err
		}
	}
	if o.out == "" {
		_, err = os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(o.out, text, 0o644)
}

func render(o options) (text, notes []byte, err error) {
	c, err := loader.Load(o.chart)
	if err != nil {
		return nil, nil, fmt.Errorf("load the chart: %w", err)
	}
	given := chartutil.Values{}
	if o.values != "" {
		if given, err = chartutil.ReadValuesFile(o.values); err != nil {
			return nil, nil, fmt.Errorf("values: %w", err)
		}
	}
	release := chartutil.ReleaseOptions{Name: o.release, Namespace: o.namespace, Revision: 1, IsInstall: true}
	capabilities, err := capabilitiesOf(o.kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	values, err := chartutil.ToRenderValues(c, given, release, capabilities)
	if err != nil {
		return nil, nil, fmt.Errorf("values: %w", err)
	}
	files, err := execute(c, values, o.kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	for name, body := range files {
		if path.Base(name) == "NOTES.txt" {
			notes = []byte(body)
			delete(files, name)
		} else if o.only != "" && path.Base(name) != o.only {
			delete(files, name)
		}
	}
	if len(files) == 0 {
		return nil, nil, errors.New("no template is called " + o.only)
	}
	text, err = join(o.header, files)
	return text, notes, err
}

// capabilitiesOf returns what Helm knows of the cluster: its APIs with their kinds.
func capabilitiesOf(kubeconfig string) (*chartutil.Capabilities, error) {
	if kubeconfig == "" {
		return chartutil.DefaultCapabilities, nil
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		return nil, fmt.Errorf("the cluster's APIs: %w", err)
	}
	out := chartutil.DefaultCapabilities.Copy()
	out.APIVersions = nil
	for _, list := range lists {
		out.APIVersions = append(out.APIVersions, list.GroupVersion)
		for _, r := range list.APIResources {
			out.APIVersions = append(out.APIVersions, list.GroupVersion+"/"+r.Kind)
		}
	}
	return out, nil
}

func execute(c *chart.Chart, values chartutil.Values, kubeconfig string) (map[string]string, error) {
	if kubeconfig == "" {
		return engine.Engine{Strict: true}.Render(c, values)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	return engine.RenderWithClient(c, values, cfg)
}

// join puts the objects in the order of their installation.
func join(header string, files map[string]string) ([]byte, error) {
	hooks, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, err
	}
	if len(hooks) > 0 {
		return nil, errors.New("hooks cannot be rendered to plain YAML")
	}
	var out bytes.Buffer
	for line := range strings.Lines(header) {
		fmt.Fprintf(&out, "# %s\n", strings.TrimRight(line, "\n"))
	}
	for _, m := range manifests {
		fmt.Fprintf(&out, "---\n# %s\n%s\n", path.Base(m.Name), strings.TrimSpace(m.Content))
	}
	return out.Bytes(), nil
}
