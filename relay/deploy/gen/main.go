// Command gen writes the relay's rights, as `skerryctl init` grants them, to a file of the Helm chart. `make generate` runs it.
package main

import (
	"flag"
	"fmt"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/skerry/skerry/relay/setup"
)

func main() {
	out := flag.String("out", "", "`file` to write")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func write(path string) error {
	text, err := yaml.Marshal(setup.Rights())
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte("# Made from relay/setup/rights.go by make generate. Do not edit.\n"), text...), 0o644)
}
