package push

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// What a reply may hold (RESP2, redis.io/docs/reference/protocol-spec).
const (
	respMaxLine  = 4096
	respMaxBulk  = 64 << 10
	respMaxItems = 1 << 16
	respMaxDepth = 4
)

// redisKeep is about how many entries a stream keeps: a server's memory is not for ever.
const redisKeep = "1000000"

func parseRedis(path string, data map[string]any) (target, error) {
	top := read(path, data, "redisClientConfig")
	top.Require("an object with addr", "redisClientConfig")
	if err := top.err(); err != nil {
		return target{}, err
	}
	f := read(path+".redisClientConfig", object(data, "redisClientConfig"), "addr", "db", "poolsize", "minIdleConns")
	f.Require("the server's address, as 127.0.0.1:6379", "addr")
	f.Int(0, 0, 1<<20, "poolsize") // a target has one connection
	f.Int(0, 0, 1<<20, "minIdleConns")
	t := target{opt: &options{}}
	t.timeout = defaultTimeout
	t.db = int(f.Int(0, 0, 1<<16, "db"))
	if text := f.text("addr"); text != "" {
		base, rest := address(f.Fields, "addr", bare(text, "redis"), 0, map[string]int{"redis": 6379, "rediss": 6379})
		if rest != "" && rest != "/" {
			f.Fail("addr", text, "has a path", "HOST:PORT, redis://HOST:PORT, rediss://HOST:PORT")
		}
		t.address = base
	}
	return t, f.err()
}

type redisSender struct {
	*stream
	c  credential
	db int
}

func dialRedis(e endpoint, c credential) (sender, error) {
	s, err := newStream(e, c, "rediss")
	if err != nil {
		return nil, err
	}
	return &redisSender{s, c, e.db}, nil
}

// send adds all values to the streams of their devices, in one transaction: after a failure before EXEC nothing of the batch is there.
func (s *redisSender) send(ctx context.Context, items []item) (tally, error) {
	begun, release, err := s.open(ctx)
	if err != nil {
		return tally{}, err
	}
	defer release()
	var b []byte
	replies := 0
	add := func(words ...string) {
		b = respAppend(b, words...)
		replies++
	}
	if begun {
		switch {
		case s.c.Username != "":
			add("AUTH", s.c.Username, s.c.Password)
		case s.c.Password != "":
			add("AUTH", s.c.Password)
		}
		add("SELECT", strconv.Itoa(s.db))
	}
	add("MULTI")
	for i := range items {
		add(redisEntry(&items[i])...)
	}
	add("EXEC")
	if _, err := s.conn.Write(b); err != nil {
		return tally{}, err
	}
	for range replies - 1 {
		if err := respRead(s.r, 0); err != nil {
			return tally{}, err
		}
	}
	return respExec(s.r, len(items))
}

// respExec reads what EXEC answers. Commands that failed within a transaction do not undo the others: they are given up, or the others would be repeated without end.
func respExec(r *bufio.Reader, items int) (t tally, err error) {
	line, err := respLine(r)
	switch {
	case err != nil:
		return t, err
	case line[0] == '-':
		return t, serverError(line[1:])
	case line != "*"+strconv.Itoa(items):
		return t, fmt.Errorf("the server answers EXEC of %d commands with %.20q", items, line)
	}
	for range items {
		err := respRead(r, 1)
		var said serverError
		switch {
		case errors.As(err, &said):
			t.refused++
			t.why = said.Error()
		case err != nil:
			return tally{}, err
		}
	}
	return t, nil
}

// serverError is an error reply.
type serverError string

func (e serverError) Error() string { return "the server answers: " + excerpt([]byte(e)) }

// redisEntry is the command for one value.
func redisEntry(it *item) []string {
	d := document(it)
	out := []string{"XADD", "skerry:" + it.Namespace + "/" + it.Device, "MAXLEN", "~", redisKeep, "*",
		"property", it.Property, "value", it.Value.Text(), "quality", d.Quality, "time", d.Time}
	if d.Reason != "" {
		out = append(out, "reason", d.Reason)
	}
	if d.SourceTime != "" {
		out = append(out, "sourceTime", d.SourceTime)
	}
	if d.Seq != 0 {
		out = append(out, "epoch", strconv.FormatUint(d.Epoch, 10), "seq", strconv.FormatUint(d.Seq, 10))
	}
	return out
}

// respAppend appends a command: an array of bulk strings.
func respAppend(b []byte, words ...string) []byte {
	b = append(append(append(b, '*'), strconv.Itoa(len(words))...), "\r\n"...)
	for _, w := range words {
		b = append(append(append(b, '$'), strconv.Itoa(len(w))...), "\r\n"...)
		b = append(append(b, w...), "\r\n"...)
	}
	return b
}

// respRead reads one reply. An error reply anywhere in it is a serverError; then the rest of the reply is not read if it is an array.
func respRead(r *bufio.Reader, depth int) error {
	if depth > respMaxDepth {
		return errors.New("a reply is nested too deeply: this is no Redis")
	}
	line, err := respLine(r)
	if err != nil {
		return err
	}
	rest := line[1:]
	switch line[0] {
	case '+', ':':
		return nil
	case '-':
		return serverError(rest)
	case '$', '*':
		n, err := strconv.Atoi(rest)
		most := respMaxItems
		if line[0] == '$' {
			most = respMaxBulk
		}
		switch {
		case err != nil || n < -1 || n > most:
			return fmt.Errorf("a reply has the length %.20q: allowed are -1 to %d", rest, most)
		case n == -1:
			return nil
		case line[0] == '$':
			_, err = io.CopyN(io.Discard, r, int64(n)+2)
			return err
		}
		for range n {
			if err := respRead(r, depth+1); err != nil {
				return fmt.Errorf("within an array: %s", err.Error()) // no serverError: the connection cannot be used any more
			}
		}
		return nil
	}
	return fmt.Errorf("a reply begins with %q: this is no Redis", line[0])
}

// respLine reads up to CR LF, and returns at least one byte.
func respLine(r *bufio.Reader) (string, error) {
	var out []byte
	for {
		part, err := r.ReadSlice('\n')
		out = append(out, part...)
		switch {
		case len(out) > respMaxLine:
			return "", fmt.Errorf("a line of a reply has more than %d bytes: this is no Redis", respMaxLine)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return "", err
		case len(out) < 3 || out[len(out)-2] != '\r':
			return "", errors.New("a line of a reply is empty, or has no end: this is no Redis")
		}
		return string(out[:len(out)-2]), nil
	}
}
