// Command skerry-relay stands between one Kubernetes API and the gateways: it fans the objects of each node out to its agent,
// and writes back what agents report. It keeps nothing; any number of replicas may run.
//
// This package is wiring only. main parses and checks the configuration, then calls run, which tests call too. It is tested
// against a real control plane in hil-tests/relay.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/relay/config"
)

func main() {
	cfg, err := config.Parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case errors.Is(err, config.ErrVersion):
		fmt.Println("skerry-relay", skerry.Version)
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "skerry-relay:", err)
		os.Exit(2)
	}
	log := newLog(cfg.Log)
	// client-go logs through a global of its own.
	klog.SetSlogLogger(log.With(slog.String("component", "client-go")))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the relay at once
	tuneMemory(cfg.Memory.GCPercent, log)
	if err := run(ctx, cfg, log); err != nil {
		log.Error("the relay stops", slog.Any("error", err))
		os.Exit(1)
	}
}

func newLog(c config.Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[c.Level]}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}
