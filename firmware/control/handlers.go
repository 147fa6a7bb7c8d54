package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/mappers/device"
)

func deviceOf(d devices.DeviceState) Device {
	out := Device{Namespace: d.Namespace, Name: d.Name, Protocol: d.Protocol, State: d.State, Ready: d.Ready, Reason: d.Reason,
		Message: d.Message, LastOnline: d.LastOnline, Properties: make([]Property, 0, len(d.Properties))}
	for _, p := range d.Properties {
		out.Properties = append(out.Properties, propertyOf(p))
	}
	return out
}

func propertyOf(p devices.PropertyState) Property {
	return Property{Name: p.Name, Value: p.Value, Unit: p.Unit, Quality: p.Quality.String(), Reason: p.Reason, At: p.At, Desired: p.Desired, Outcome: p.Outcome, Origin: p.Origin}
}

func valueOf(property string, v device.Value) Property {
	return Property{Name: property, Value: v.Text(), Quality: v.Quality.String(), Reason: v.Reason, At: v.Server}
}

func (s *Server) list(context.Context, *http.Request) (any, error) {
	out := []Device{}
	for _, d := range s.opt.Devices.Status() {
		out = append(out, deviceOf(d))
	}
	return out, nil
}

// device returns the device that a request's path names.
func (s *Server) device(r *http.Request) (devices.DeviceState, error) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	return s.find(namespace, name)
}

func (s *Server) find(namespace, name string) (devices.DeviceState, error) {
	var names []string
	for _, d := range s.opt.Devices.Status() {
		if d.Namespace == namespace && d.Name == name {
			return d, nil
		}
		names = append(names, d.Namespace+"/"+d.Name)
	}
	return devices.DeviceState{}, &Error{Code: CodeNotFound, Text: fmt.Sprintf("this gateway has no device %s/%s; it has: %s. Is spec.nodeName of the Device this gateway, and has it been in touch with the relay since?",
		namespace, name, few(names))}
}

// few lists names, not too many of them.
func few(names []string) string {
	const most = 20
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// known refuses properties that a device does not have.
func known(d devices.DeviceState, properties []string) error {
	have := make([]string, 0, len(d.Properties))
	for _, p := range d.Properties {
		have = append(have, p.Name)
	}
	for _, p := range properties {
		if !slices.Contains(have, p) {
			return &Error{Code: CodeNotFound, Text: fmt.Sprintf("device %s/%s has no property %q; it has: %s", d.Namespace, d.Name, p, few(have))}
		}
	}
	return nil
}

func (s *Server) read(ctx context.Context, r *http.Request) (any, error) {
	var req ReadRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	d, err := s.device(r)
	if err != nil {
		return nil, err
	}
	if err := known(d, req.Properties); err != nil {
		return nil, err
	}
	got, err := s.opt.Devices.Read(ctx, d.Namespace, d.Name, req.Properties)
	if err != nil && len(got) == 0 {
		return nil, fmt.Errorf("read device %s/%s: %w", d.Namespace, d.Name, err)
	}
	out := make([]Property, 0, len(got)) // an error is the reason of each value, too
	for _, p := range got {
		out = append(out, propertyOf(p))
	}
	return out, nil
}

func (s *Server) write(ctx context.Context, r *http.Request) (any, error) {
	var req WriteRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	d, err := s.device(r)
	if err != nil {
		return nil, err
	}
	if err := known(d, []string{req.Property}); err != nil {
		return nil, err
	}
	res, err := s.opt.Devices.Write(ctx, d.Namespace, d.Name, req.Property, req.Value)
	if errors.Is(err, device.ErrUnreachable) {
		return WriteAnswer{Outcome: "pending", Reason: "it is recorded and will be written when the device answers, unless a newer value comes: " + err.Error(),
			Readback: valueOf(req.Property, device.Value{})}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("write to device %s/%s: %w", d.Namespace, d.Name, err)
	}
	out := WriteAnswer{Outcome: "applied", Readback: valueOf(req.Property, res.Readback)}
	switch {
	case res.Err != nil:
		out.Outcome, out.Reason = "failed", res.Err.Error()
	case res.Verified:
		out.Outcome = "verified"
	}
	return out, nil
}

func (s *Server) call(ctx context.Context, r *http.Request) (any, error) {
	var req CallRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	d, err := s.device(r)
	if err != nil {
		return nil, err
	}
	got, err := s.opt.Explorer.Call(ctx, d.Namespace, d.Name, req.Method, req.Arguments)
	if err != nil {
		return nil, fmt.Errorf("call device %s/%s: %w", d.Namespace, d.Name, err)
	}
	if got == nil {
		got = map[string]string{}
	}
	return CallAnswer{Results: got}, nil
}

// certificates lists what the drivers trust.
func (s *Server) certificates(context.Context, *http.Request) (any, error) {
	out := []Certificate{}
	for _, d := range s.opt.Drivers {
		t, ok := d.(device.Truster)
		if !ok {
			continue
		}
		list, err := t.Certificates()
		if err != nil {
			return nil, fmt.Errorf("the trust list of %s: %w", d.Protocols()[0], err)
		}
		for _, c := range list {
			out = append(out, Certificate{Protocol: d.Protocols()[0], Fingerprint: c.Fingerprint, Subject: c.Subject, Issuer: c.Issuer,
				ApplicationURI: c.ApplicationURI, NotBefore: c.NotBefore, NotAfter: c.NotAfter, State: c.State, Path: c.Path})
		}
	}
	return out, nil
}

// decide accepts or rejects a certificate.
func (s *Server) decide(ctx context.Context, r *http.Request) (any, error) {
	fingerprint, verb := r.PathValue("fingerprint"), r.PathValue("verb")
	if verb != "accept" && verb != "reject" {
		return nil, &Error{Code: CodeInvalid, Text: fmt.Sprintf("%q: allowed are accept and reject", verb)}
	}
	got, err := s.certificates(ctx, r)
	if err != nil {
		return nil, err
	}
	all, _ := got.([]Certificate)
	c, err := pick(all, fingerprint)
	if err != nil {
		return nil, err
	}
	for _, d := range s.opt.Drivers {
		t, ok := d.(device.Truster)
		if !ok || d.Protocols()[0] != c.Protocol {
			continue
		}
		change := t.Trust
		if verb == "reject" {
			change = t.Reject
		}
		if err := change(c.Fingerprint); err != nil {
			return nil, fmt.Errorf("%s certificate %s: %w", verb, c.Fingerprint, err)
		}
		c.State = map[string]string{"accept": "trusted", "reject": "rejected"}[verb]
		s.opt.Log.Info("a certificate's trust was changed on the control socket", "protocol", c.Protocol, "fingerprint", c.Fingerprint, "subject", c.Subject, "state", c.State)
		return c, nil
	}
	return nil, &Error{Code: CodeNotFound, Text: "the driver of the certificate went away"}
}

// pick finds a certificate by its fingerprint, or by the beginning of it that no other has.
func pick(all []Certificate, fingerprint string) (Certificate, error) {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, ":", "")) }
	want := plain(fingerprint)
	const least = 6
	if len(want) < least {
		return Certificate{}, &Error{Code: CodeInvalid, Text: fmt.Sprintf("%q: give at least %d digits of the fingerprint", fingerprint, least)}
	}
	var found []Certificate
	for _, c := range all {
		if strings.HasPrefix(plain(c.Fingerprint), want) && c.State != "own" {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return Certificate{}, &Error{Code: CodeNotFound, Text: fmt.Sprintf("no certificate of a server has a fingerprint that begins with %q: `skerryctl device trust list` shows them; a server gets into the list when a device first tries to connect to it", fingerprint)}
	case 1:
		return found[0], nil
	}
	return Certificate{}, &Error{Code: CodeInvalid, Text: fmt.Sprintf("%d certificates have fingerprints that begin with %q: give more of it", len(found), fingerprint)}
}

// left guesses how long the rest of a work takes at the pace so far.
func left(began, now time.Time, done, total int) time.Duration {
	if done <= 0 || total <= done {
		return 0
	}
	return (now.Sub(began) * time.Duration(total-done) / time.Duration(done)).Round(time.Second)
}
