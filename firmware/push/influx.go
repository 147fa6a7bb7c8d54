package push

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
)

func parseInflux(path string, data map[string]any) (target, error) {
	top := read(path, data, "influxdb2ClientConfig", "influxdb2DataConfig")
	top.Require("an object with url, org and bucket", "influxdb2ClientConfig")
	top.Ignore("influxdb2DataConfig")
	if err := top.err(); err != nil {
		return target{}, err
	}
	f := read(path+".influxdb2ClientConfig", object(data, "influxdb2ClientConfig"), "url", "org", "bucket")
	f.Require("the server's address, as http://influx.example:8086", "url")
	f.Require("the name or id of the organisation", "org")
	f.Require("the name or id of the bucket", "bucket")
	t := target{opt: &options{}}
	t.timeout = defaultTimeout
	query := url.Values{"org": {f.text("org")}, "bucket": {f.text("bucket")}, "precision": {"ns"}}
	if text := f.text("url"); text != "" {
		base, rest := address(f.Fields, "url", text, 0, webSchemes)
		t.address, t.path = base, strings.TrimRight(rest, "/")+"/api/v2/write?"+query.Encode()
	}
	if err := f.err(); err != nil {
		return t, err
	}
	raw := object(data, "influxdb2DataConfig")
	d := read(path+".influxdb2DataConfig", raw, "measurement", "tag", "fieldKey")
	t.opt.measurement, t.opt.fieldKey = d.text("measurement"), d.text("fieldKey")
	if strings.HasPrefix(t.opt.measurement, "#") {
		d.Fail("measurement", t.opt.measurement, "begins with #, which makes its lines comments", "another name")
	}
	d.Ignore("tag")
	tags := object(raw, "tag")
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		value, ok := tags[key].(string)
		if !ok || trimName(value) == "" || trimName(key) == "" || len(key)+len(value) > maxText || strings.ContainsAny(key+value, "\r\n") {
			d.Fail("tag", key, "is no tag", "names and texts of one line that are not empty")
			continue
		}
		t.opt.tagged = true
		t.opt.tags += "," + escapeTag(key) + "=" + escapeTag(value)
	}
	return t, d.err()
}

type influxSender struct{ *web }

func dialInflux(e endpoint, c credential) (sender, error) {
	w, err := newWeb(e, c, "text/plain; charset=utf-8")
	if err != nil {
		return nil, err
	}
	w.authorize(c, "Token")
	return influxSender{w}, nil
}

func (s influxSender) send(ctx context.Context, items []item) (tally, error) {
	var b []byte
	for i := range items {
		b = appendLine(b, &items[i])
	}
	_, err := s.post(ctx, b)
	return tally{}, err
}
