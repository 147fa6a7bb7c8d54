// Command skerry-sim runs Modbus devices and OPC UA servers that a YAML file describes, to try a gateway with (docs/simulators.md).
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/skerry/skerry/hil-tests/simulator"
)

func main() {
	check := flag.Bool("check", false, "judge the file and end")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: skerry-sim [-check] FILE\n\nRuns the Modbus devices and OPC UA servers of a YAML file (docs/simulators.md).")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, flag.Arg(0), *check)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "skerry-sim:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file string, check bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	cfg, err := simulator.Parse(text)
	if err != nil || check {
		return err
	}
	log.SetOutput(io.Discard) // gopcua's server tells how it builds its address space
	s, err := simulator.Start(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	<-ctx.Done()
	return s.Close()
}
