package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/skerry/skerry/firmware/agent"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/health/diagnose"
)

// diagnoseVerb collects what whoever helps from afar needs, whether or not the agent runs, and whether or not there is a configuration.
func diagnoseVerb(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return diagnoseAt(ctx, args, stdout, stderr, time.Now)
}

func diagnoseAt(ctx context.Context, args []string, stdout, stderr io.Writer, now func() time.Time) error {
	fs, load := flags("diagnose", stderr)
	to := fs.String("o", "", "`file` to write; - is standard output, nothing skerry-diagnose-NODE-TIME.tar.gz in this folder")
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, cause := load()
	if cause != nil {
		fmt.Fprintf(stderr, "the configuration cannot be used, and the defaults are: %v\n", cause)
		cfg = config.Defaults()
		cfg.Node.Name, _ = os.Hostname()
	}
	lists := [][]diagnose.Source{diagnose.Agent(cfg.Socket), agent.LocalSources(cfg)}
	if cause != nil {
		lists = append(lists, []diagnose.Source{diagnose.Text("config-error.txt", cause.Error()+"\n")})
	}
	if *to == "-" {
		return diagnose.Write(ctx, stdout, lists...)
	}
	mode := os.O_TRUNC
	if *to == "" { // a name that can be foretold, in a folder that may be anybody's: nothing that lies there is written over, nor followed
		mode = os.O_EXCL
		*to = fmt.Sprintf("skerry-diagnose-%s-%s.tar.gz", cfg.Node.Name, now().UTC().Format("20060102T150405Z"))
	}
	f, err := os.OpenFile(*to, os.O_WRONLY|os.O_CREATE|mode, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("the bundle: %s is there already: move it away, or name another file with -o", *to)
	}
	if err != nil {
		return fmt.Errorf("the bundle: %w", err)
	}
	if err := errors.Join(diagnose.Write(ctx, f, lists...), f.Close()); err != nil {
		return errors.Join(err, os.Remove(*to))
	}
	fmt.Fprintf(stdout, "wrote %s; its summary.txt says what could not be collected\n", *to)
	return nil
}
