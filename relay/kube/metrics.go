package kube

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// Metrics counts what the relay asks of the API server, and what it did not have to ask. A nil *Metrics measures nothing.
// All methods may be called concurrently.
type Metrics struct{ set *metrics.Set }

// NewMetrics registers the counters in set.
func NewMetrics(set *metrics.Set) *Metrics { return &Metrics{set: set} }

func (m *Metrics) count(name string) {
	if m != nil {
		m.set.GetOrCreateCounter(name).Inc()
	}
}

func (m *Metrics) encoded(bytes int) {
	if m != nil {
		m.set.GetOrCreateCounter("skerry_relay_objects_encoded_total").Inc()
		m.set.GetOrCreateCounter("skerry_relay_objects_encoded_bytes_total").Add(bytes)
	}
}

func (m *Metrics) reports(what string) {
	m.count(`skerry_relay_writer_reports_total{result="` + what + `"}`)
}
func (m *Metrics) unchanged(kind string) {
	m.count(`skerry_relay_writes_unchanged_total{resource="` + kind + `"}`)
}
func (m *Metrics) conflict(kind string) {
	m.count(`skerry_relay_write_conflicts_total{resource="` + kind + `"}`)
}
func (m *Metrics) failure(kind string) {
	m.count(`skerry_relay_write_failures_total{resource="` + kind + `"}`)
}
func (m *Metrics) kept(what string) {
	m.count(`skerry_relay_autonomy_writes_total{what="` + what + `"}`)
}
func (m *Metrics) fenced()            { m.count("skerry_relay_sessions_fenced_total") }
func (m *Metrics) claim(how string)   { m.count(`skerry_relay_lease_claims_total{how="` + how + `"}`) }
func (m *Metrics) late()              { m.count("skerry_relay_lease_renewals_late_total") }
func (m *Metrics) keptFresh()         { m.count("skerry_relay_leases_kept_fresh_total") }
func (m *Metrics) events(what string) { m.count(`skerry_relay_events_total{result="` + what + `"}`) }

// spent counts writes of reports by whether they were within their node's share.
func (m *Metrics) spent(beyond bool) {
	if beyond {
		m.count(`skerry_relay_report_writes_total{share="beyond"}`)
	} else {
		m.count(`skerry_relay_report_writes_total{share="within"}`)
	}
}

func (m *Metrics) asked(keys int) {
	if m != nil {
		m.set.GetOrCreateCounter("skerry_relay_reports_asked_again_total").Add(keys)
	}
}

func (m *Metrics) gauge(name string, f func() float64) {
	if m != nil {
		m.set.GetOrCreateGauge(name, f)
	}
}

// Wrap counts API requests by verb, resource and status code. It fits rest.Config.Wrap.
func (m *Metrics) Wrap(next http.RoundTripper) http.RoundTripper {
	if m == nil {
		return next
	}
	return &countingTransport{metrics: m, next: next}
}

type countingTransport struct {
	metrics *Metrics
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *countingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	code := "error"
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	verb, res := describeRequest(req)
	t.metrics.count(`skerry_relay_api_requests_total{verb="` + verb + `",resource="` + res + `",code="` + code + `"}`)
	return resp, err
}

// describeRequest reads verb and resource off a request's path:
// /api/v1[/namespaces/NS]/RESOURCE[/NAME[/SUB]] and /apis/GROUP/VERSION/….
func describeRequest(req *http.Request) (verb, res string) {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return strings.ToLower(req.Method), "other"
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	res = parts[0]
	if len(parts) > 2 {
		res += "/" + parts[2]
	}
	switch req.Method {
	case http.MethodGet:
		verb = "list"
		if len(parts) > 1 {
			verb = "get"
		}
		if req.URL.Query().Get("watch") != "" {
			verb = "watch"
		}
	case http.MethodPost:
		verb = "create"
	case http.MethodPut:
		verb = "update"
	default:
		verb = strings.ToLower(req.Method)
	}
	return verb, res
}
