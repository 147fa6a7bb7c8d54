package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/images"
)

// Namespace is the one in which containerd's CRI service keeps its images.
const Namespace = "k8s.io"

// Services of containerd's API.
const (
	leases  = "/containerd.services.leases.v1.Leases/"
	content = "/containerd.services.content.v1.Content/"
	imgs    = "/containerd.services.images.v1.Images/"
)

const (
	leaseTime  = 24 * time.Hour // after which containerd collects what an import that was killed has left
	writeStep  = 512 << 10      // bytes of one write; grpc-go takes messages up to 4 MiB, containerd up to 16
	actionData = 1              // WriteAction.WRITE
	actionEnd  = 2              // WriteAction.COMMIT
	callTime   = 2 * time.Minute
)

// Dialer makes calls on the runtime's socket. *cri.Client implements it.
type Dialer interface {
	Invoke(ctx context.Context, method string, meta cri.Metadata, req []byte) ([]byte, error)
	Open(ctx context.Context, method string, meta cri.Metadata) *cri.Stream
}

// Client calls one containerd.
type Client struct{ d Dialer }

// New returns a client. It does not connect.
func New(d Dialer) *Client { return &Client{d} }

// Pull is content that containerd is fetching.
type Pull struct {
	Ref    string // of the ingest: says what it is
	Offset int64  // bytes that are there
	Total  int64  // bytes that there will be; 0 if it does not know
}

type leaseKey struct{}

func meta(ctx context.Context) cri.Metadata {
	m := cri.Metadata{"containerd-namespace": Namespace}
	if id, ok := ctx.Value(leaseKey{}).(string); ok {
		m["containerd-lease"] = id
	}
	return m
}

func (c *Client) call(ctx context.Context, method string, req message) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return c.d.Invoke(ctx, method, meta(ctx), req)
}

// Lease makes a lease. What is written with the context that it returns is kept until release is called, or for a day.
func (c *Client) Lease(ctx context.Context, id string) (leased context.Context, release func(context.Context) error, err error) {
	expires := time.Now().Add(leaseTime).UTC().Format(time.RFC3339)
	req := message{}.text(1, id).labels(3, map[string]string{"containerd.io/gc.expire": expires})
	if _, err := c.call(ctx, leases+"Create", req); err != nil {
		return nil, nil, fmt.Errorf("make a lease in containerd: %w", err)
	}
	return context.WithValue(ctx, leaseKey{}, id), func(ctx context.Context) error {
		if _, err := c.call(ctx, leases+"Delete", message{}.text(1, id)); err != nil && !errors.Is(err, cri.ErrNotFound) {
			return fmt.Errorf("end the lease in containerd: %w", err)
		}
		return nil
	}, nil
}

// Has reports whether content is there, whole.
func (c *Client) Has(ctx context.Context, digest string) (bool, error) {
	_, err := c.call(ctx, content+"Info", message{}.text(1, digest))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, cri.ErrNotFound):
		return false, nil
	default:
		return false, fmt.Errorf("ask containerd for %s: %w", digest, err)
	}
}

// Label adds labels to content that is there. Under the context of a lease it also puts the content under the lease.
func (c *Client) Label(ctx context.Context, digest string, labels map[string]string) error {
	if id, ok := ctx.Value(leaseKey{}).(string); ok {
		resource := message{}.text(1, digest).text(2, "content")
		if _, err := c.call(ctx, leases+"AddResource", message{}.text(1, id).message(2, resource)); err != nil && !errors.Is(err, cri.ErrAlreadyExists) {
			return fmt.Errorf("keep %s in containerd: %w", digest, err)
		}
	}
	if len(labels) == 0 {
		return nil
	}
	var mask message
	for k := range labels {
		mask = mask.text(1, "labels."+k)
	}
	req := message{}.message(1, message{}.text(1, digest).labels(5, labels)).message(2, mask)
	if _, err := c.call(ctx, content+"Update", req); err != nil {
		return fmt.Errorf("label %s in containerd: %w", digest, err)
	}
	return nil
}

// Write writes content. labels say what else it needs, so that containerd's garbage collector keeps that too. containerd checks its size and digest before it counts as there. That it is there already is no error.
func (c *Client) Write(ctx context.Context, b images.Descriptor, labels map[string]string, from io.Reader) error {
	ref := "skerry-import-" + b.Digest
	if _, err := c.call(ctx, content+"Abort", message{}.text(1, ref)); err != nil && !errors.Is(err, cri.ErrNotFound) {
		return fmt.Errorf("drop what an earlier import left in containerd: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := c.d.Open(ctx, content+"Write", meta(ctx))
	defer s.Close()
	err := writeAll(s, ref, b, labels, from)
	if errors.Is(err, cri.ErrAlreadyExists) {
		return c.Label(ctx, b.Digest, labels)
	}
	if err != nil {
		return fmt.Errorf("write %s to containerd: %w", b.Digest, err)
	}
	return nil
}

// writeAll sends content in steps, each of which containerd acknowledges, and commits it.
func writeAll(s *cri.Stream, ref string, b images.Descriptor, labels map[string]string, from io.Reader) error {
	begin := message{}.text(2, ref).number(3, b.Size).text(4, b.Digest)
	buf := make([]byte, min(writeStep, b.Size))
	var offset int64
	for offset < b.Size {
		n := min(int64(len(buf)), b.Size-offset)
		if _, err := io.ReadFull(from, buf[:n]); err != nil {
			return fmt.Errorf("read at %d of %d bytes: %w", offset, b.Size, err)
		}
		req := slices.Clone(begin).number(1, actionData).number(5, offset).message(6, buf[:n])
		if err := step(s, req, offset+n); err != nil {
			return err
		}
		offset += n
	}
	return step(s, slices.Clone(begin).number(1, actionEnd).number(5, offset).labels(7, labels), offset)
}

// step sends one request and reads how far containerd has come.
func step(s *cri.Stream, req message, want int64) error {
	sent := s.Send(req)
	resp, err := s.Recv()
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case sent != nil:
		return sent
	case err != nil:
		return io.ErrUnexpectedEOF
	}
	var offset int64
	err = visit(resp, func(num int, v uint64, _ []byte) error {
		if num == 4 {
			offset = int64(v) //nolint:gosec // int64 in the .proto
		}
		return nil
	})
	if err == nil && offset != want {
		err = errors.New("containerd has " + strconv.FormatInt(offset, 10) + " bytes, sent were " + strconv.FormatInt(want, 10))
	}
	return err
}

// Tag makes name stand for content, whatever it stood for before. Newer runtimes show the image as pinned: it might be impossible to get again.
func (c *Client) Tag(ctx context.Context, name string, target images.Descriptor) error {
	d := message{}.text(1, target.MediaType).text(2, target.Digest).number(3, target.Size)
	image := message{}.text(1, name).labels(2, map[string]string{"io.cri-containerd.pinned": "pinned"}).message(3, d)
	_, err := c.call(ctx, imgs+"Create", message{}.message(1, image))
	if errors.Is(err, cri.ErrAlreadyExists) {
		_, err = c.call(ctx, imgs+"Update", message{}.message(1, image))
	}
	if err != nil {
		return fmt.Errorf("name image %s in containerd: %w", name, err)
	}
	return nil
}

// Pulls returns what containerd is fetching at the moment.
func (c *Client) Pulls(ctx context.Context) ([]Pull, error) {
	resp, err := c.call(ctx, content+"ListStatuses", nil)
	if err != nil {
		return nil, fmt.Errorf("ask containerd what it fetches: %w", err)
	}
	var out []Pull
	err = visit(resp, func(num int, _ uint64, data []byte) error {
		if num != 1 || len(out) >= maxPulls {
			return nil
		}
		var p Pull
		err := visit(data, func(num int, v uint64, data []byte) error {
			switch num {
			case 3:
				p.Ref = string(data)
			case 4:
				p.Offset = int64(v) //nolint:gosec // int64 in the .proto
			case 5:
				p.Total = int64(v) //nolint:gosec // int64 in the .proto
			}
			return nil
		})
		out = append(out, p)
		return err
	})
	return out, err
}

// maxPulls bounds what is kept of containerd's answer.
const maxPulls = 1000
