package streamtest

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

func TestPipes(t *testing.T) {
	p := NewPipes()
	heard := make(chan string, 1)
	go func() {
		c, err := p.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		b, _ := io.ReadAll(c)
		heard <- string(b)
	}()
	c, err := p.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	if got := <-heard; got != "hello" {
		t.Errorf("heard %q", got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Dial(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody accepts: %v", err)
	}
	_, _ = p.Close(), p.Close()
	if _, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepted by a closed listener: %v", err)
	}
	if _, err := p.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialled at a closed listener: %v", err)
	}
}
