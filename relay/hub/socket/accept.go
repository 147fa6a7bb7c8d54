package socket

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455, section 4.2.2, prescribes it; nothing is kept secret by it
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// magic is from RFC 6455, section 1.3.
const magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// Accept answers an opening handshake that offers the subprotocol, and takes the connection over; limit is the largest message
// that Read takes, bytes. Header fields set on w go with the answer. On an error the request has been answered.
func Accept(w http.ResponseWriter, r *http.Request, subprotocol string, limit int) (*Conn, error) {
	key, err := check(r, subprotocol)
	if err != nil {
		w.Header().Set("Sec-WebSocket-Version", "13")
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, err
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "the connection cannot become a WebSocket", http.StatusInternalServerError)
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	// What the agent sent behind its request has been read already.
	ahead, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("read what came with the request: %w", err)
	}
	sum := sha1.Sum([]byte(key + magic)) //nolint:gosec // see above
	var answer bytes.Buffer
	fmt.Fprintf(&answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), subprotocol)
	err = w.Header().Write(&answer)
	answer.WriteString("\r\n")
	if err == nil {
		err = write(nc, answer.Bytes())
	}
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("answer the opening handshake: %w", err)
	}
	return newConn(nc, bytes.Clone(ahead), limit), nil
}

// answerPatience is how long a peer may take for the answer. net/http's limits have ended, and nobody watches the connection yet: one
// that reads nothing would keep it, and the goroutine, for ever.
const answerPatience = 10 * time.Second

func write(nc net.Conn, answer []byte) error {
	if err := nc.SetWriteDeadline(time.Now().Add(answerPatience)); err != nil {
		return err
	}
	if _, err := nc.Write(answer); err != nil {
		return err
	}
	return nc.SetWriteDeadline(time.Time{})
}

func newConn(nc net.Conn, ahead []byte, limit int) *Conn {
	if len(ahead) == 0 {
		ahead = nil
	}
	return &Conn{nc: nc, ahead: ahead, limit: limit}
}

// check holds the request to RFC 6455, section 4.2.1, and returns its key.
func check(r *http.Request, subprotocol string) (key string, err error) {
	switch {
	case r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1):
		return "", errors.New("a WebSocket begins with a GET of HTTP/1.1")
	case !has(r.Header, "Connection", "upgrade") || !has(r.Header, "Upgrade", "websocket"):
		return "", errors.New("this is for WebSockets: the request does not ask for an upgrade")
	case !has(r.Header, "Sec-WebSocket-Version", "13"):
		return "", errors.New("WebSocket version 13 is spoken here")
	case !has(r.Header, "Sec-WebSocket-Protocol", subprotocol):
		return "", errors.New("the subprotocol " + subprotocol + " is spoken here")
	case r.Header.Get("Origin") != "":
		return "", errors.New("this is not for web pages")
	}
	key = r.Header.Get("Sec-WebSocket-Key")
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 {
		return "", errors.New("the request has no valid Sec-WebSocket-Key")
	}
	return key, nil
}

// has reports whether a header field lists the token.
func has(h http.Header, field, token string) bool {
	return slices.ContainsFunc(h.Values(field), func(line string) bool {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
		return false
	})
}
