// Command skerryd is the Skerry agent: it runs pods and devices on a gateway, as a relay tells it, and goes on without one.
//
//	skerryd join    enrol this gateway with a token from `skerryctl token create --node NAME`
//	skerryd run     run the agent (what the service unit calls)
//	skerryd status  what the running agent does, and what is wrong
//	skerryd config  check the configuration file and print it with all defaults
//	skerryd device VERB …  read, write, watch, find and plan devices (see skerryd device -h)
//	skerryd board list|show|check   what hardware this is, and whether it is as described
//	skerryd image import FILE…   import container images from files, without a registry
//	skerryd update status|install FILE|cancel   a new system for this gateway, from a stick or a file
//	skerryd boot-backend VERB …   which system boots: what RAUC calls
//	skerryd boot-deadline  restart the machine if a new system is not confirmed in time (what skerry-trial.service of an image calls)
//	skerryd shutdown  stop the pods in order before the machine goes down (what skerry-shutdown.service calls)
//	skerryd provision  wait for a provisioning file on a USB stick or the disk, and join with it (what skerry-provision.service of an image calls)
//	skerryd diagnose  collect what somebody needs who helps from afar (-o FILE.tar.gz)
//	skerryd factory-reset -all|-keep-identity   at the next start the gateway is as it came out of the box
//	skerryd mqtt-password -user NAME   a line for mqtt.passwordFile, of the password on standard input
//	skerryd version
//
// Under the name skerryctl the same binary answers to the same verbs, so that a technician finds them on the gateway.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/firmware/agent"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/devicectl"
	"github.com/skerry/skerry/firmware/health"
	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/proxy"
)

const usage = `usage: skerryd VERB [-config FILE] …

  run      run the agent
  join     enrol this gateway: skerryd join -token TOKEN | -token-file FILE
  status   what the running agent does, and what is wrong (-o json)
  config   check the configuration and print it with all defaults
  device   read, write, watch, browse, find, plan and import devices: skerryd device -h
  board    what hardware this is, and whether it is as described: skerryd board -h
  image    import container images from files, without a registry: skerryd image import FILE…
  update   a new system: skerryd update status|install FILE|cancel
  diagnose  collect what somebody needs who helps from afar: skerryd diagnose -o FILE.tar.gz
  factory-reset  on an image: be as out of the box from the next start on: skerryd factory-reset -all|-keep-identity
  mqtt-password  hash a password for the MQTT broker: skerryd mqtt-password -user NAME
  version  print the version
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		os.Exit(explain(os.Stderr, err))
	}
}

var errUsage = errors.New("see skerryd -h")

// explain tells why a command ended, and returns the exit status.
func explain(stderr io.Writer, err error) int {
	status := 1
	var exit *devicectl.ExitError
	switch {
	case errors.As(err, &exit):
		if status = exit.Status; exit.Text == "" { // it has been said
			return status
		}
	case errors.Is(err, errUsage):
		status = 2
	}
	fmt.Fprintln(stderr, filepath.Base(os.Args[0])+":", err)
	return status
}

// run is main without the process: it can be called by tests.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if filepath.Base(os.Args[0]) == filepath.Base(rauc.BackendPath) {
		return bootBackend(ctx, args, stdout, stderr)
	}
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		fmt.Fprint(stdout, usage)
		return nil
	}
	verbs := map[string]func(context.Context, []string, io.Writer, io.Writer) error{
		"run": runAgent, "join": join, "status": status, "config": printConfig, "shutdown": shutdown, "provision": provisionGateway, "factory-reset": factoryReset, "image": image, "device": deviceVerbs, "board": boardVerbs, "diagnose": diagnoseVerb, "boot-backend": bootBackend, "boot-deadline": bootDeadline, "update": updateVerbs, "mqtt-password": mqttPassword,
		"version": func(_ context.Context, _ []string, w, _ io.Writer) error {
			fmt.Fprintf(w, "skerryd %s %s/%s %s\n", skerry.Version, runtime.GOOS, runtime.GOARCH, runtime.Version())
			return nil
		},
	}
	verb, ok := verbs[args[0]]
	if !ok {
		return fmt.Errorf("unknown verb %q (known: run, join, status, config, shutdown, provision, factory-reset, image, device, board, diagnose, update, mqtt-password, version): %w", args[0], errUsage)
	}
	err := verb(ctx, args[1:], stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

// flags returns a flag set that knows -config, and a function that loads the configuration after parsing.
func flags(verb string, stderr io.Writer) (*flag.FlagSet, func() (config.Config, error)) {
	fs := flag.NewFlagSet("skerryd "+verb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	file := fs.String("config", config.DefaultPath, "configuration `file`")
	return fs, func() (config.Config, error) { return config.Load(*file) }
}

func parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%s takes no argument %q: %w", fs.Name(), fs.Arg(0), errUsage)
	}
	return nil
}

func runAgent(ctx context.Context, args []string, _, stderr io.Writer) error {
	fs, load := flags("run", stderr)
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	return agent.Run(ctx, cfg, logger(cfg, stderr))
}

func logger(cfg config.Config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.Log.Level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func join(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs, load := flags("join", stderr)
	token := fs.String("token", "", "join `token` from `skerryctl token create --node NAME`")
	tokenFile := fs.String("token-file", "", "`file` that holds the join token (keeps it out of the process list)")
	wait := fs.Duration("timeout", 2*time.Minute, "how long to try while the relay does not answer")
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	text := *token
	switch {
	case (text == "") == (*tokenFile == ""):
		return fmt.Errorf("give either -token or -token-file: %w", errUsage)
	case *tokenFile != "":
		b, err := os.ReadFile(*tokenFile)
		if err != nil {
			return fmt.Errorf("read -token-file: %w", err)
		}
		text = string(b)
	}
	o := identity.EnrollOptions{
		Addresses: cfg.Relay.Addresses, Token: strings.TrimSpace(text), Node: cfg.Node.Name, Dir: cfg.IdentityDir, Log: logger(cfg, stderr),
	}
	if cfg.Relay.Proxy != "" {
		p, err := proxy.Parse(cfg.Relay.Proxy)
		if err != nil {
			return fmt.Errorf("relay.proxy: %w", err)
		}
		o.Dial = p.DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, *wait)
	defer cancel()
	id, err := identity.Enroll(ctx, o)
	if err != nil {
		return fmt.Errorf("join as node %q: %w", cfg.Node.Name, err)
	}
	fmt.Fprintf(stdout, "joined as node %q; the certificate is valid until %s and is in %s\n", id.Node(), id.NotAfter().Format(time.RFC3339), cfg.IdentityDir)
	return nil
}

func status(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs, load := flags("status", stderr)
	format := fs.String("o", "text", "output `format`: text or json")
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := health.Fetch(ctx, cfg.Socket)
	if err != nil {
		return err
	}
	switch *format {
	case "json":
		_, err = stdout.Write(body)
		return err
	case "text":
		var s agent.Status
		if err := json.Unmarshal(body, &s); err != nil {
			return fmt.Errorf("the agent on %s answers with something else than a status: %w", cfg.Socket, err)
		}
		s.Print(stdout, time.Now())
		return nil
	}
	return fmt.Errorf("-o %q: allowed are text and json: %w", *format, errUsage)
}

// shutdown waits for as long as the configuration gives the pods, and some more.
func shutdown(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs, load := flags("shutdown", stderr)
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Node.Shutdown.GracePeriod+30*time.Second)
	defer cancel()
	if err := health.Shutdown(ctx, cfg.Socket); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "the pods of this gateway have stopped; they run again when the agent is started")
	return nil
}

func printConfig(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs, load := flags("config", stderr)
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	text, err := cfg.YAML()
	if err != nil {
		return err
	}
	_, err = stdout.Write(text)
	return err
}
