package v1beta1

import (
	"fmt"
	"testing"
)

func TestSummary(t *testing.T) {
	value := func(name, v, quality string) Twin {
		tw := Twin{PropertyName: name, Reported: &TwinProperty{Value: v}}
		if quality != "" {
			tw.Reported.Metadata = map[string]string{"quality": quality}
		}
		return tw
	}
	many := make([]Twin, 100)
	for i := range many {
		many[i] = value(fmt.Sprintf("p%02d", i), "1", "good")
	}
	for _, c := range []struct {
		twins []Twin
		limit int
		want  string
	}{
		{nil, 20, ""},
		{[]Twin{value("temp", "21.5", ""), {PropertyName: "level"}, value("speed", "7", "bad")}, 60, "temp=21.5 level=? speed=7(bad)"},
		{many, 20, "p00=1 p01=1 p02=1 … +97"},
		{[]Twin{value("long", "0123456789012345678901234567890", "good")}, 20, "long=0123456789012345678901234567890"},
	} {
		if got := Summary(c.twins, c.limit); got != c.want {
			t.Errorf("Summary = %q, want %q", got, c.want)
		}
	}
}
