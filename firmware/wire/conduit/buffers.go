package conduit

import (
	"cmp"
	"log/slog"
	"net/http/httputil"
	"sync"
)

// Buffers is an httputil.BufferPool.
type Buffers struct {
	Size int // of each, in bytes; default 32 KiB, as io.Copy; not changed once Get was called
	pool sync.Pool
}

var _ httputil.BufferPool = (*Buffers)(nil)

// Get returns a buffer of Size bytes.
func (p *Buffers) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, cmp.Or(p.Size, 32<<10))
}

// Put takes back a buffer that Get has returned.
func (p *Buffers) Put(b []byte) { p.pool.Put(&b) }

// DebugLog takes net/http's complaints about connections, which say nothing that the request's own end does not. It is an io.Writer
// for log.New.
type DebugLog struct {
	Log     *slog.Logger
	Message string
}

// Write logs one complaint.
func (d DebugLog) Write(b []byte) (int, error) {
	d.Log.Debug(d.Message, "http", string(b))
	return len(b), nil
}
