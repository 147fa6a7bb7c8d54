package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Labels that containerd puts onto what it pulls.
const (
	labelChild  = "containerd.io/gc.ref.content"       // + more: digest of what a manifest is made of
	labelSource = "containerd.io/distribution.source." // + registry, without its port: repositories, separated by commas
)

// Owners returns of which repositories (as docker.io/library/busybox, without the registry's port) an ingest of a pull is: those of the manifests that name what it
// fetches. None: nobody knows (yet).
func (c *Client) Owners(ctx context.Context, ref string) ([]string, error) {
	_, digest, ok := strings.Cut(ref, "-") // layer-sha256:…
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	s := c.d.Open(ctx, content+"List", meta(ctx))
	defer s.Close()
	err := s.Send(nil)
	if closed := s.CloseSend(); err == nil {
		err = closed
	}
	var out []string
	for err == nil {
		var resp []byte
		if resp, err = s.Recv(); err == nil {
			err = visit(resp, func(num int, _ uint64, info []byte) error {
				if num != 1 {
					return nil
				}
				repos, err := sources(info, digest)
				out = append(out, repos...)
				return err
			})
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("ask containerd what %s is of: %w", ref, err)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// sources returns the repositories of a manifest that names a digest.
func sources(info []byte, digest string) (repos []string, err error) {
	parent := false
	err = visit(info, func(num int, _ uint64, data []byte) error {
		if num != 5 {
			return nil
		}
		var key, value string
		err := visit(data, func(num int, _ uint64, data []byte) error {
			switch num {
			case 1:
				key = string(data)
			case 2:
				value = string(data)
			}
			return nil
		})
		switch {
		case strings.HasPrefix(key, labelChild) && value == digest:
			parent = true
		case strings.HasPrefix(key, labelSource):
			for repo := range strings.SplitSeq(value, ",") {
				repos = append(repos, strings.TrimPrefix(key, labelSource)+"/"+repo)
			}
		}
		return err
	})
	if !parent {
		repos = nil
	}
	return repos, err
}
