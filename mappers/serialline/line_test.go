package serialline_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

// TestScriptedTiming holds the line of linetest to what drivers rely on: bytes arrive when their last bit does.
func TestScriptedTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := serialline.Config{Baud: 9600} // 1.041667 ms a character
		line, peer := linetest.Pair(cfg)
		start := time.Now()
		go func() {
			mustWrite(t, peer, "ab")
			time.Sleep(50 * time.Millisecond)
			mustWrite(t, peer, "c")
			_ = peer.Close()
		}()
		for i, want := range []time.Duration{cfg.CharTime(1), 2 * cfg.CharTime(1), 2*cfg.CharTime(1) + 50*time.Millisecond + cfg.CharTime(1)} {
			buf := make([]byte, 8)
			n, err := line.Read(buf)
			if n != 1 || err != nil || time.Since(start) != want {
				t.Errorf("byte %d: %q, %v after %v, want %v", i, buf[:n], err, time.Since(start), want)
			}
		}
		if _, err := line.Read(make([]byte, 1)); !errors.Is(err, serialline.ErrGone) {
			t.Error(err)
		}
	})
}

func TestScriptedDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line, peer := linetest.Pair(serialline.Config{})
		start := time.Now()
		_ = line.SetDeadline(start.Add(time.Second))
		if _, err := line.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		_ = line.SetDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() { _ = line.SetDeadline(time.Unix(1, 0)) })
		if _, err := line.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		_ = peer.SetDeadline(time.Now().Add(time.Millisecond))
		if _, err := peer.Write(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if n, err := line.Discard(); n != 100 || err != nil {
			t.Errorf("%d %v", n, err)
		}
	})
}

func TestKeeperBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		k := serialline.NewKeeper(func() (serialline.Line, error) {
			tries++
			return nil, errors.New("not there")
		})
		for range 60_000 { // a minute, asked every millisecond
			if _, err := k.Line(); err == nil || err.Error() != "not there" {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if tries < 10 || tries > 25 {
			t.Errorf("%d tries in a minute", tries)
		}
	})
}

func TestLineOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	line, err := serialline.Dial(t.Context(), l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = line.Close() }()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, line, "hello")
	if _, err := io.ReadFull(peer, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, peer, "old")
	mustRead(t, line, "o")
	if err := line.SetDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := line.Discard(); n != 2 || err != nil {
		t.Errorf("Discard past the deadline: %d, %v", n, err)
	}
	if _, err := line.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the deadline was forgotten: %v", err)
	}
	mustWrite(t, peer, "new")
	mustRead(t, line, "new")
	_ = peer.Close()
	_ = line.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := line.Read(make([]byte, 1)); !errors.Is(err, serialline.ErrGone) || !strings.Contains(err.Error(), "closed the connection") {
		t.Error(err)
	}
	if _, err := line.Discard(); !errors.Is(err, serialline.ErrGone) {
		t.Error(err)
	}
	_ = l.Close()
	if _, err := serialline.Dial(t.Context(), l.Addr().String(), nil); err == nil || !strings.HasSuffix(err.Error(), "cannot be reached: connection refused") {
		t.Error(err)
	}
}
