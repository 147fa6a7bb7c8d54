package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// deviceView is one device as GET / shows it.
type deviceView struct {
	Name   string             `json:"name"`
	Fault  Fault              `json:"fault"`
	Values map[string]float64 `json:"values"`
}

// startControl serves values and faults over HTTP. It is for the person who holds the demonstration: it asks nobody who they are, so it belongs
// on loopback.
func (s *Simulator) startControl(ctx context.Context, addr string) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("the simulator's control port: %w", err)
	}
	s.control = ln.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.show)
	mux.HandleFunc("POST /fault", s.postFault)
	mux.HandleFunc("POST /set", s.postSet)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	s.hold(server)
	s.work.Go(func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the simulator's control port", "err", err)
		}
	})
	s.log.Info("control", "url", "http://"+s.control)
	return nil
}

func (s *Simulator) show(w http.ResponseWriter, _ *http.Request) {
	var out []deviceView
	for _, d := range s.devices {
		out = append(out, deviceView{Name: d.Name, Fault: d.Fault(), Values: d.Values()})
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(out) // the client has gone away
}

// device finds the device that a request is about.
func (s *Simulator) device(w http.ResponseWriter, r *http.Request) *Device {
	d := s.Device(r.FormValue("device"))
	if d == nil {
		http.Error(w, fmt.Sprintf("device %q: there is none of that name", r.FormValue("device")), http.StatusNotFound)
	}
	return d
}

func (s *Simulator) postFault(w http.ResponseWriter, r *http.Request) {
	d := s.device(w, r)
	if d == nil {
		return
	}
	f := Fault{Kind: FaultKind(r.FormValue("kind"))}
	var err error
	if text := r.FormValue("code"); text != "" {
		f.Code, err = strconv.Atoi(text)
	}
	if text := r.FormValue("delay"); text != "" && err == nil {
		f.Delay, err = time.ParseDuration(text)
	}
	if err == nil {
		err = d.SetFault(f)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.log.Info("fault", "device", d.Name, "kind", f.Kind)
}

func (s *Simulator) postSet(w http.ResponseWriter, r *http.Request) {
	d := s.device(w, r)
	if d == nil {
		return
	}
	v, err := strconv.ParseFloat(r.FormValue("value"), 64)
	if err == nil {
		err = d.Set(r.FormValue("point"), v)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}
