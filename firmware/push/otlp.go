package push

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

func parseOTLP(path string, data map[string]any) (target, error) {
	f := read(path, data, "endpointURL")
	f.Require("the collector's address for metrics, as https://collector.example:4318/v1/metrics", "endpointURL")
	t := target{opt: &options{}}
	t.timeout = defaultTimeout
	if text := f.text("endpointURL"); text != "" {
		t.address, t.path = address(f.Fields, "endpointURL", text, 0, map[string]int{"http": 4318, "https": 4318})
		if t.path == "/" {
			t.path = "/v1/metrics"
		}
	}
	return t, f.err()
}

// The messages of OTLP in their JSON form: names in lowerCamelCase, integers of 64 bits as texts (OTLP 1.x, "JSON Protobuf Encoding").
type (
	otlpExport struct {
		ResourceMetrics []otlpResourceMetrics `json:"resourceMetrics"`
	}
	otlpResourceMetrics struct {
		Resource     otlpResource       `json:"resource"`
		ScopeMetrics []otlpScopeMetrics `json:"scopeMetrics"`
	}
	otlpResource struct {
		Attributes []otlpAttribute `json:"attributes"`
	}
	otlpAttribute struct {
		Key   string   `json:"key"`
		Value otlpText `json:"value"`
	}
	otlpText struct {
		StringValue string `json:"stringValue"`
	}
	otlpScopeMetrics struct {
		Scope   otlpScope    `json:"scope"`
		Metrics []otlpMetric `json:"metrics"`
	}
	otlpScope struct {
		Name string `json:"name"`
	}
	otlpMetric struct {
		Name  string    `json:"name"`
		Gauge otlpGauge `json:"gauge"`
	}
	otlpGauge struct {
		DataPoints []otlpPoint `json:"dataPoints"`
	}
	otlpPoint struct {
		Attributes   []otlpAttribute `json:"attributes"`
		TimeUnixNano string          `json:"timeUnixNano"`
		AsDouble     *number         `json:"asDouble,omitempty"`
		AsInt        string          `json:"asInt,omitempty"`
		Flags        int             `json:"flags,omitempty"`
	}
)

const otlpNoRecordedValue = 1 // DataPointFlags: there is no value at this time

type otlpSender struct{ *web }

func dialOTLP(e endpoint, c credential) (sender, error) {
	w, err := newWeb(e, c, "application/json")
	if err != nil {
		return nil, err
	}
	w.authorize(c, "Bearer")
	return otlpSender{w}, nil
}

func (s otlpSender) send(ctx context.Context, items []item) (t tally, err error) {
	body, skipped := otlpBody(items)
	if skipped > 0 {
		t.skipped, t.why = skipped, "texts and bytes are no OpenTelemetry metrics: remove pushMethod.otel from properties of such types"
	}
	if skipped == len(items) {
		return t, nil
	}
	b, err := json.Marshal(body)
	if err != nil {
		return t, fmt.Errorf("encode the values: %w", err)
	}
	reply, err := s.post(ctx, b)
	if err != nil {
		return t, err
	}
	n, why := otlpRejected(reply)
	if n = min(n, len(items)-skipped); n > 0 {
		t.refused, t.why = n, "the collector has rejected values: "+why
	}
	return t, nil
}

func otlpBody(items []item) (out otlpExport, skipped int) {
	text := func(k, v string) otlpAttribute { return otlpAttribute{k, otlpText{v}} }
	scope := otlpScopeMetrics{Scope: otlpScope{"skerryd"}}
	index := map[string]int{} // by metric
	for i := range items {
		it := &items[i]
		p := otlpPoint{
			Attributes:   []otlpAttribute{text("namespace", it.Namespace), text("device", it.Device), text("quality", it.Value.Quality.String())},
			TimeUnixNano: strconv.FormatInt(max(0, it.at().UnixNano()), 10),
		}
		switch v := it.Value; v.Kind() {
		case device.KindNone:
			p.Flags = otlpNoRecordedValue
		case device.KindBool:
			p.AsInt = "0"
			if v.AsBool() {
				p.AsInt = "1"
			}
		case device.KindInt:
			p.AsInt = v.Text()
		case device.KindUint, device.KindFloat:
			d := number(v.Text())
			switch {
			case v.Kind() == device.KindUint && v.AsUint() <= 1<<63-1:
				p.AsInt = v.Text()
			case !finite(v.AsFloat()):
				p.Flags = otlpNoRecordedValue
			default:
				p.AsDouble = &d
			}
		default:
			skipped++
			continue
		}
		at, ok := index[it.Property]
		if !ok {
			at = len(scope.Metrics)
			index[it.Property] = at
			scope.Metrics = append(scope.Metrics, otlpMetric{Name: it.Property})
		}
		g := &scope.Metrics[at].Gauge
		g.DataPoints = append(g.DataPoints, p)
	}
	out.ResourceMetrics = []otlpResourceMetrics{{
		Resource:     otlpResource{[]otlpAttribute{text("service.name", "skerryd")}},
		ScopeMetrics: []otlpScopeMetrics{scope},
	}}
	return out, skipped
}

// otlpRejected reads how many points a collector that has answered with success has rejected. An empty answer, or one that is no JSON, says nothing of that.
func otlpRejected(reply []byte) (n int, why string) {
	var r struct {
		PartialSuccess struct {
			RejectedDataPoints json.RawMessage `json:"rejectedDataPoints"`
			ErrorMessage       string          `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	if json.Unmarshal(reply, &r) != nil {
		return 0, ""
	}
	// An int64: a text in proto's JSON form, a number from lenient encoders.
	count, err := strconv.ParseInt(strings.Trim(string(r.PartialSuccess.RejectedDataPoints), `"`), 10, 32)
	if err != nil || count < 0 {
		return 0, ""
	}
	return int(count), excerpt([]byte(r.PartialSuccess.ErrorMessage))
}
