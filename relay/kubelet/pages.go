package kubelet

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
)

// What a gateway may answer, as far as others in the cluster read it as a whole: whoever scrapes all nodes must not be brought down by one of them that has been
// taken over. A page of 250 pods is about 5 MB.
const (
	maxAnswerHeader = 64 << 10
	maxPage         = 32 << 20 // bytes, when it is not compressed any more
)

var errPage = fmt.Errorf("the gateway's answer is larger than %d MiB", maxPage>>20)

// boundPage bounds an answer about a node as a whole. One that is compressed, for the sake of the line to the gateway, is decompressed here: a few kilobytes
// could otherwise become gigabytes at whoever asked.
func boundPage(answer *http.Response) error {
	p := &page{from: answer.Body, left: maxPage}
	switch encoding := answer.Header.Get("Content-Encoding"); encoding {
	case "":
	case "gzip":
		p.packed = true
		answer.Header.Del("Content-Encoding")
		answer.Header.Del("Content-Length")
		answer.ContentLength = -1
	default:
		return fmt.Errorf("the gateway's answer is encoded as %q, which was not asked for", encoding)
	}
	if answer.ContentLength > maxPage {
		return errPage
	}
	answer.Body = p
	return nil
}

// page is the body of an answer. It belongs to who reads it.
type page struct {
	from   io.ReadCloser
	packed bool
	gz     *gzip.Reader // of a packed one, once something was read
	left   int64
}

// Read implements io.Reader.
func (p *page) Read(b []byte) (int, error) {
	var from io.Reader = p.from
	if p.packed {
		if p.gz == nil {
			gz, err := gzip.NewReader(p.from)
			if err == io.EOF { //nolint:errorlint // nothing at all: the answer to HEAD
				return 0, io.EOF
			}
			if err != nil {
				return 0, fmt.Errorf("the gateway's answer is no gzip: %w", err)
			}
			p.gz = gz
		}
		from = p.gz
	}
	if p.left == 0 {
		if n, err := io.ReadFull(from, make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, errPage
	}
	n, err := from.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	return n, err
}

// Close implements io.Closer.
func (p *page) Close() error { return p.from.Close() }
