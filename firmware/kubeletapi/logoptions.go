package kubeletapi

import (
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// logOptions are those of PodLogOptions that reach a kubelet.
type logOptions struct {
	follow, previous, timestamps bool
	since                        time.Time // zero: from the beginning
	tail                         int64     // lines; negative: all
	limit                        int64     // bytes; negative: all
	stdout, stderr               bool
}

// parseLogOptions reads the query as the API server writes it (k8s.io/api core/v1 PodLogOptions). now is the gateway's time, to which
// sinceSeconds refers, as the time stamps in the files do.
func parseLogOptions(q url.Values, now time.Time) (o logOptions, err error) {
	o = logOptions{tail: -1, limit: -1, stdout: true, stderr: true}
	number := func(name string, least int64, into *int64) {
		text := q.Get(name)
		if text == "" || err != nil {
			return
		}
		n, perr := strconv.ParseInt(text, 10, 64)
		if perr != nil || n < least {
			err = fmt.Errorf("%s=%s: want a number of at least %d", name, text, least)
			return
		}
		*into = n
	}
	boolean := func(name string, into *bool) {
		text := q.Get(name)
		if text == "" || err != nil {
			return
		}
		b, perr := strconv.ParseBool(text)
		if perr != nil {
			err = fmt.Errorf("%s=%s: want true or false", name, text)
			return
		}
		*into = b
	}
	boolean("follow", &o.follow)
	boolean("previous", &o.previous)
	boolean("timestamps", &o.timestamps)
	number("limitBytes", 1, &o.limit)
	if q.Get("tail") != "all" {
		number("tail", 0, &o.tail)
	}
	number("tailLines", 0, &o.tail)
	var seconds int64
	number("sinceSeconds", 1, &seconds)
	if seconds > 0 {
		const most = int64(1<<63-1) / int64(time.Second)
		o.since = now.Add(-time.Duration(min(seconds, most)) * time.Second)
	}
	if text := q.Get("sinceTime"); text != "" && err == nil {
		if seconds > 0 {
			return o, fmt.Errorf("sinceSeconds and sinceTime exclude each other")
		}
		if o.since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return o, fmt.Errorf("sinceTime=%s: want a time as in RFC 3339", text)
		}
	}
	switch stream := q.Get("stream"); stream {
	case "", "All":
	case "Stdout":
		o.stderr = false
	case "Stderr":
		o.stdout = false
	default:
		return o, fmt.Errorf("stream=%s: want All, Stdout or Stderr", stream)
	}
	if err == nil && o.tail >= 0 && o.stdout != o.stderr {
		return o, fmt.Errorf("tailLines cannot be had of one stream")
	}
	return o, err
}
