package grpcwire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Method is one unary method of a service. It returns a StatusError to say which status the caller gets; any other error is Unknown.
type Method struct {
	New  func() Message // of the request
	Call func(ctx context.Context, req Message) (Message, error)
}

// Server serves unary methods. It is an http.Handler for a server that speaks HTTP/2.
type Server struct {
	Methods    map[string]Method // by path, as "/package.Service/Method"
	MaxRequest int               // bytes of an encoded request
	// ReadTime is how long a caller may take to send a request.
	ReadTime time.Duration
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), contentType) {
		http.Error(w, "this socket serves gRPC", http.StatusUnsupportedMediaType)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	resp, err := s.answer(w, r)
	if err != nil {
		status, ok := errors.AsType[*StatusError](err)
		if !ok {
			status = &StatusError{Unknown, err.Error()}
		}
		// An answer that is nothing but a status has it in its headers (Trailers-Only).
		h.Set(headerStatus, strconv.FormatUint(uint64(status.Code), 10))
		h.Set(headerMessage, percentEncode(status.Message))
		return
	}
	_, _ = w.Write(Frame(resp)) // a caller who has gone needs none
	h.Set(http.TrailerPrefix+headerStatus, "0")
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) (Message, error) {
	m, ok := s.Methods[r.URL.Path]
	if !ok {
		return nil, Errorf(Unimplemented, "there is no method %s here", clip(r.URL.Path))
	}
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.ReadTime)); err != nil {
		return nil, Errorf(Internal, "limit the time of the request: %v", err)
	}
	data, err := ReadFrame(r.Body, nil, s.MaxRequest)
	switch {
	case errors.Is(err, io.EOF):
		return nil, Errorf(InvalidArgument, "the call has no message")
	case errors.Is(err, ErrTooLarge):
		return nil, Errorf(ResourceExhausted, "the request is larger than %d bytes: send it in parts", s.MaxRequest)
	case errors.Is(err, ErrCompressed):
		return nil, Errorf(Unimplemented, "compressed messages are not understood: send them uncompressed")
	case err != nil:
		return nil, Errorf(Unavailable, "read the request: %v", err)
	}
	if n, err := r.Body.Read(make([]byte, 1)); n > 0 {
		return nil, Errorf(InvalidArgument, "more than one message in a unary call")
	} else if !errors.Is(err, io.EOF) {
		return nil, Errorf(Unavailable, "read the request's end: %v", err)
	}
	req := m.New()
	if err := Unmarshal(data, req); err != nil {
		return nil, Errorf(InvalidArgument, "%v", err)
	}
	ctx := r.Context()
	if d, ok := parseTimeout(r.Header.Get(headerTimeout)); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return m.Call(ctx, req)
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
