// Command skerry-publish cuts a bundle into chunks, as gateways fetch it: it writes NAME.skidx and NAME.skdat beside NAME.raucb. Put both on any HTTPS server
// that knows Range requests, in one folder.
//
//	skerry-publish [-against OLD… [-report FILE]] BUNDLE.raucb
//
// With -against it also tells what a gateway fetches that runs OLD: images of its slot, or the bundle before; -report writes that as JSON.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/skerry/skerry/firmware/update/chunks"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "skerry-publish:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("skerry-publish", flag.ContinueOnError)
	fs.SetOutput(stderr)
	var against []string
	fs.Func("against", "`file` that a gateway has; may be given several times", func(s string) error { against = append(against, s); return nil })
	report := fs.String("report", "", "`file` for delta_ratio, in JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return errors.New("one bundle is needed")
	}
	path := fs.Arg(0)
	base := strings.TrimSuffix(path, ".raucb")
	x, err := publish(path, base+chunks.DataSuffix)
	if err != nil {
		return err
	}
	index := x.Append(nil)
	if err := os.WriteFile(base+chunks.IndexSuffix, index, 0o644); err != nil { //nolint:gosec // it is to be published
		return err
	}
	var stored int64
	for _, c := range x.Chunks {
		stored += int64(c.Stored)
	}
	fmt.Fprintf(stdout, "%s: %.1f MB in %d chunks; index %.2f MB, data %.1f MB\n", path, float64(x.Size)/1e6, len(x.Chunks), float64(len(index))/1e6, float64(stored)/1e6)
	if len(against) == 0 {
		return nil
	}
	need, err := missing(ctx, x, against)
	if err != nil {
		return err
	}
	wire := need + int64(len(index))
	ratio := float64(wire) / float64(x.Size)
	fmt.Fprintf(stdout, "a gateway with %s fetches %.2f MB: delta_ratio %.4f\n", strings.Join(against, ", "), float64(wire)/1e6, ratio)
	if *report == "" {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{"delta_ratio": ratio, "delta_bytes": wire, "bundle_bytes": x.Size}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*report), 0o750); err != nil {
		return err
	}
	return os.WriteFile(*report, append(text, '\n'), 0o644) //nolint:gosec // figures
}

func publish(path, data string) (*chunks.Index, error) {
	in, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.Create(filepath.Clean(data))
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(out, 1<<20)
	x, err := chunks.Write(w, in)
	if err := errors.Join(err, w.Flush(), out.Close()); err != nil {
		return nil, err
	}
	return x, nil
}

// nowhere is a bundle of which nothing is there, and which keeps nothing.
type nowhere struct{}

func (nowhere) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) Sync() error                            { return nil }

// missing puts x together from files, and returns the bytes that are not in them.
func missing(ctx context.Context, x *chunks.Index, files []string) (int64, error) {
	a, err := chunks.NewAssembly(ctx, x, nowhere{})
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Clean(f))
		if err != nil {
			return 0, err
		}
		if err := a.Seed(ctx, bytes.NewReader(b)); err != nil {
			return 0, err
		}
	}
	return a.Missing(), nil
}
