package dmi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/mappers/dmi"
)

// maxState bounds the state file: 32 mappers with 1,000 devices each have less.
const maxState = 16 << 20

// replace takes a mapper's connection over, and ends the one of the mapper before it.
func (s *Service) replace(protocol string, m *mapper) {
	name := strings.ToLower(protocol)
	s.mu.Lock()
	old := s.mappers[name]
	s.mappers[name] = m
	s.mu.Unlock()
	if old != nil {
		old.close()
	}
}

func (s *Service) save(list []dmi.Saved) error {
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := durable.MakeDir(filepath.Dir(s.opt.StateFile), 0o700); err != nil {
		return err
	}
	return durable.Replace(s.opt.StateFile, b, 0o600)
}

// restore takes over the mappers of earlier starts: KubeEdge's framework registers once, when it is started.
func (s *Service) restore() {
	list, err := s.load()
	if err != nil {
		s.log.Warn("the list of mappers cannot be read; those that run have to be restarted, so that they register again", "file", s.opt.StateFile, "error", err)
		return
	}
	for _, x := range list {
		socket, err := socketOf([]byte(x.Address))
		if err != nil {
			s.log.Warn("a mapper of an earlier start is forgotten", "mapper", x.Name, "error", err)
			continue
		}
		m := newMapper(socket, x.UID, s.opt.MaxMessage)
		s.replace(x.Protocol, m)
		s.Registry.Restore(x, m, m.lost)
	}
}

func (s *Service) load() (list []dmi.Saved, err error) {
	if s.opt.StateFile == "" {
		return nil, nil
	}
	f, err := os.Open(s.opt.StateFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxState {
		return nil, fmt.Errorf("it is larger than %d bytes", maxState)
	}
	return list, json.Unmarshal(b, &list)
}
