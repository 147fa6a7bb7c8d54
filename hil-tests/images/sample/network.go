package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// get prints what a server answers. A status other than 200 is an error.
func get(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("get: give a URL")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if _, err := io.Copy(os.Stdout, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// resolve prints a name's addresses, separated by spaces.
func resolve(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("resolve: give a name")
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	addrs, err := (&net.Resolver{PreferGo: true}).LookupHost(ctx, args[0])
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(addrs, " "))
	return nil
}

// serveUDP answers every datagram.
func serveUDP(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp", ":"+envOr("PORT", "8080"))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })() //nolint:errcheck // ends the loop
	buf := make([]byte, 1500)
	for {
		_, from, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(writerTo{conn, from}, "%s asked by %s", host, from)
	}
}

type writerTo struct {
	conn net.PacketConn
	to   net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.conn.WriteTo(b, w.to) }

// write puts a file in place at once, as those do who ship a configuration to a node.
func write(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("write: give a path and a text")
	}
	temporary := filepath.Join(filepath.Dir(args[0]), ".new")
	if err := errors.Join(os.WriteFile(temporary, []byte(args[1]), 0o600), os.Rename(temporary, args[0])); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
