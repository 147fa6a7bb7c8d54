// Command sample is the container that tests and the demo run: one static binary that serves HTTP, logs, ends
// or eats memory as its arguments say.
//
//	sample [serve]       serve HTTP on $PORT (default 8080) and print one line a second
//	sample exit N [MS]   print a line, wait MS milliseconds, exit with status N
//	sample sleep         print a line and wait for a signal, printing nothing more
//	sample memhog MB     touch MB mebibytes, then wait for a signal
//	sample cat FILE…     print files
//	sample env           print the environment
//	sample procs N       start N processes that sleep, and say how many came up
//	sample id            print user, groups, capabilities and other facts of the process
//	sample chat N M      print M numbered lines, N a second
//	sample get URL       print what an HTTP server answers
//	sample resolve NAME  print a name's addresses, by /etc/resolv.conf
//	sample udp           answer datagrams on $PORT with the host's name and the sender's address
//	sample write P TEXT  write TEXT to the file P, and wait for a signal
//	sample grpc          serve gRPC's health service on $PORT: everything serves, but the service "ill"
//	sample https [DAYS]  serve over TLS, with a certificate that signs itself, is of another name and valid for DAYS (default 1; -1: it has expired)
//
// serve and https answer /healthz (ok, or 500 while the file $UNHEALTHY_FILE exists), /peer (host name and who asks), /env (the environment), /config/… (files
// below $CONFIG_DIR, default /config) and / (host name, version, start time, uptime).
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sample:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	verb := "serve"
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "serve":
		return serve(ctx, nil)
	case "https":
		config, err := selfSigned(args)
		if err != nil {
			return err
		}
		return serve(ctx, config)
	case "exit":
		return exit(ctx, args)
	case "sleep":
		fmt.Println("sample: sleeping")
		<-ctx.Done()
		return nil
	case "memhog":
		return memhog(ctx, args)
	case "cat":
		for _, path := range args {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			os.Stdout.Write(data) //nolint:errcheck // a broken pipe ends the process
		}
		return nil
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return nil
	case "chat":
		return chat(ctx, args)
	case "get":
		return get(ctx, args)
	case "resolve":
		return resolve(ctx, args)
	case "udp":
		return serveUDP(ctx)
	case "write":
		return write(ctx, args)
	case "grpc":
		return serveHealth(ctx)
	case "procs":
		return procs(ctx, args)
	case "id":
		return identity()
	default:
		return fmt.Errorf("unknown verb %q: use serve, exit, sleep, memhog, cat, env, chat, get, resolve, udp, write, grpc, https, procs or id", verb)
	}
}

func exit(ctx context.Context, args []string) error {
	numbers := [2]int{}
	for i := range min(len(args), len(numbers)) {
		n, err := strconv.Atoi(args[i])
		if err != nil {
			return fmt.Errorf("exit: %w", err)
		}
		numbers[i] = n
	}
	fmt.Println("sample: exiting with status", numbers[0])
	select {
	case <-time.After(time.Duration(numbers[1]) * time.Millisecond):
	case <-ctx.Done():
	}
	os.Exit(numbers[0])
	return nil
}

func chat(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("chat: give the number of lines a second, and of all lines")
	}
	rate, err := strconv.Atoi(args[0])
	if err != nil || rate < 1 {
		return fmt.Errorf("chat: %q is not a number of lines a second", args[0])
	}
	lines, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n := range lines {
		fmt.Printf("sample: line %d of many, and long enough to fill a log in a reasonable time\n", n)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// procs starts as many processes as it may.
func procs(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("procs: give the number of processes")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("procs: %w", err)
	}
	n := 0
	for ; n < want; n++ {
		cmd := exec.CommandContext(ctx, "/proc/self/exe", "sleep")
		if err = cmd.Start(); err != nil {
			break
		}
		defer cmd.Wait() //nolint:errcheck // ends with ctx
	}
	fmt.Printf("sample: %d of %d processes, %v\n", n, want, err)
	<-ctx.Done()
	return nil
}

// identity prints what the kernel says of this process.
func identity() error {
	for _, path := range []string{"/proc/self/status", "/proc/self/uid_map", "/proc/self/oom_score_adj", "/proc/sys/net/ipv4/ip_unprivileged_port_start"} {
		b, err := os.ReadFile(path)
		fmt.Printf("%s: %v\n%s\n", path, err, b)
	}
	return nil
}

func memhog(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("memhog: give the number of mebibytes")
	}
	mb, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("memhog: %w", err)
	}
	var held [][]byte
	for i := range mb {
		block := make([]byte, 1<<20)
		for j := 0; j < len(block); j += 4096 {
			block[j] = 1
		}
		held = append(held, block)
		fmt.Printf("sample: holding %d MiB\n", i+1)
	}
	<-ctx.Done()
	fmt.Printf("sample: releasing %d MiB\n", len(held))
	return nil
}

func serve(ctx context.Context, secure *tls.Config) error {
	host, _ := os.Hostname() //nolint:errcheck // an empty name is shown
	start := time.Now()
	config := envOr("CONFIG_DIR", "/config")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if path := os.Getenv("UNHEALTHY_FILE"); path != "" {
			if _, err := os.Stat(path); err == nil {
				http.Error(w, path+" exists", http.StatusInternalServerError)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
	})
	mux.Handle("GET /config/", http.StripPrefix("/config/", http.FileServer(http.Dir(config))))
	mux.HandleFunc("GET /peer", func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "%s asked by %s\n", host, req.RemoteAddr)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "host=%s version=%s started=%s up=%s\n", host, os.Getenv("SAMPLE_VERSION"),
			start.UTC().Format(time.RFC3339Nano), time.Since(start).Round(time.Millisecond))
	})
	server := &http.Server{Addr: ":" + envOr("PORT", "8080"), Handler: mux, ReadHeaderTimeout: 5 * time.Second, TLSConfig: secure}
	failed := make(chan error, 1)
	go func() {
		if secure != nil {
			failed <- server.ListenAndServeTLS("", "")
			return
		}
		failed <- server.ListenAndServe()
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		fmt.Printf("sample: line %d host=%s version=%s\n", n, host, os.Getenv("SAMPLE_VERSION"))
		select {
		case <-tick.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			fmt.Println("sample: told to stop")
			return server.Close()
		}
	}
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
