package pacedline

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/serialline"
)

// TestAHurriedMasterIsNoFaster: the line takes the time that its characters take, whatever the master does, and counts requests that come
// too early.
func TestAHurriedMasterIsNoFaster(t *testing.T) {
	cfg := serialline.Config{Path: filepath.Join(t.TempDir(), "port"), Baud: 19200, DataBits: 8, Parity: serialline.ParityEven, StopBits: 1}
	l, err := Open(Options{Path: cfg.Path, Config: cfg, Latency: cfg.FrameGap(), Size: RTUSize, Answer: RTUAnswer(func(dst []byte, unit byte, pdu []byte) []byte {
		if unit != 1 {
			return dst
		}
		return append(dst, pdu[0], 2, 0x12, 0x34)
	})})
	if err != nil {
		t.Fatal(err)
	}
	port, err := os.OpenFile(cfg.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, _ := hex.DecodeString("010300000001840a") // the example of many manuals
	began := time.Now()
	for range 5 {
		if _, err := port.Write(request); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, 7)
		if _, err := io.ReadFull(port, reply); err != nil {
			t.Fatal(err)
		}
		if want, _ := hex.DecodeString("0103021234b533"); !bytes.Equal(reply, want) {
			t.Fatalf("% x", reply)
		}
	}
	took, r := time.Since(began), l.Report()
	if least := 5 * (cfg.CharTime(8) + cfg.FrameGap() + cfg.CharTime(7)); took < least {
		t.Errorf("5 exchanges in %v, and they take %v", took, least)
	}
	if r.Requests != 5 || r.Replies != 5 || r.Busy != 5*(cfg.CharTime(8)+2*cfg.FrameGap()+cfg.CharTime(7)) {
		t.Errorf("%+v", r)
	}
	_ = port.Close()
	n, err := Loop(cfg.Path, request, 7, cfg.FrameGap(), 50*time.Millisecond)
	if after := l.Report(); err != nil || n == 0 || after.Replies != r.Replies+n || after.Early != r.Early {
		t.Errorf("the bare loop: %d replies, %v; before %+v, after %+v", n, err, r, after)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
