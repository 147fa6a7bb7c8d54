package target

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// maxMessage bounds one line of QEMU's.
const maxMessage = 4 << 20

// event is something that QEMU told by itself.
type event struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// qmp is a connection to QEMU's control socket (docs/interop/qmp-spec.rst of QEMU).
type qmp struct {
	conn net.Conn

	mu      sync.Mutex // one command at a time
	answers chan answer
	onEvent func(event)
	done    sync.WaitGroup
}

type answer struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	event
}

// dialQMP takes over a connection and makes it ready for commands. onEvent is called from the connection's goroutine.
func dialQMP(ctx context.Context, conn net.Conn, onEvent func(event)) (*qmp, error) {
	q := &qmp{conn: conn, answers: make(chan answer), onEvent: onEvent}
	in := bufio.NewScanner(conn)
	in.Buffer(nil, maxMessage)
	greeted := make(chan struct{})
	q.done.Go(func() { q.read(in, greeted) })
	select {
	case <-greeted:
	case <-q.answers:
		return nil, errors.Join(fmt.Errorf("QEMU's greeting: %w", io.ErrUnexpectedEOF), q.close())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("QEMU's greeting: %w", context.Cause(ctx)), q.close())
	}
	if _, err := q.do(ctx, "qmp_capabilities", nil); err != nil {
		return nil, errors.Join(err, q.close())
	}
	return q, nil
}

// read hands on what comes until the connection ends.
func (q *qmp) read(in *bufio.Scanner, greeted chan struct{}) {
	defer close(q.answers)
	if in.Scan() {
		close(greeted) // {"QMP": {"version": …}}
	}
	for in.Scan() {
		var a answer
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			continue // whoever waits for an answer gives up by itself
		}
		if a.event.Event != "" {
			q.onEvent(a.event)
			continue
		}
		q.answers <- a
	}
}

// do runs one command.
func (q *qmp) do(ctx context.Context, command string, args any) (json.RawMessage, error) {
	text, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return nil, fmt.Errorf("QEMU command %s: %w", command, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, err := q.conn.Write(append(text, '\n')); err != nil {
		return nil, fmt.Errorf("QEMU command %s: %w", command, err)
	}
	select {
	case a, ok := <-q.answers:
		switch {
		case !ok:
			return nil, fmt.Errorf("QEMU command %s: %w", command, io.ErrUnexpectedEOF)
		case a.Error != nil:
			return nil, fmt.Errorf("QEMU command %s: %s: %s", command, a.Error.Class, a.Error.Desc)
		}
		return a.Return, nil
	case <-ctx.Done():
		_ = q.conn.Close() // its answer would be taken for the next command's
		return nil, fmt.Errorf("QEMU command %s: %w", command, context.Cause(ctx))
	}
}

// human runs a command of QEMU's monitor.
func (q *qmp) human(ctx context.Context, line string) (string, error) {
	out, err := q.do(ctx, "human-monitor-command", map[string]string{"command-line": line})
	if err != nil {
		return "", err
	}
	var text string
	if err := json.Unmarshal(out, &text); err != nil {
		return "", fmt.Errorf("QEMU's answer to %s: %w", line, err)
	}
	return text, nil
}

func (q *qmp) close() error {
	err := q.conn.Close()
	for range q.answers { // the reader may hold one that nobody waits for
		continue
	}
	q.done.Wait()
	return err
}
