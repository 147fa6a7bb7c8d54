package agent

import (
	"strings"
	"testing"

	mapper "github.com/skerry/skerry/mappers/dmi"
)

func TestMappersFigures(t *testing.T) {
	var b strings.Builder
	writeMappers(&b, []mapper.Status{{Name: "one", Protocol: "demo", Devices: 2, Reports: 7, Refused: 1}, {Name: "t\"wo", Protocol: "tide", Trouble: "it is gone"}})
	for _, want := range []string{
		`skerry_dmi_mapper_up{protocol="demo",mapper="one"} 1`, `skerry_dmi_devices{protocol="demo",mapper="one"} 2`, `skerry_dmi_reports_total{protocol="demo",mapper="one"} 7`,
		`skerry_dmi_reports_refused_total{protocol="demo",mapper="one"} 1`, `skerry_dmi_mapper_up{protocol="tide",mapper="t\"wo"} 0`,
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
}
