package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/skerry/skerry/firmware/mqtt"
)

// mqttPassword prints a line for mqtt.passwordFile. The password comes from standard input: arguments are for everybody on the machine to see.
func mqttPassword(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("skerryd mqtt-password", flag.ContinueOnError)
	fs.SetOutput(stderr)
	user := fs.String("user", "", "`name` of one of mqtt.identities")
	if err := parse(fs, args); err != nil {
		return err
	}
	fmt.Fprintln(stderr, "the password, on one line:")
	b, err := io.ReadAll(io.LimitReader(os.Stdin, 16<<10))
	if err != nil {
		return fmt.Errorf("read the password: %w", err)
	}
	line, err := mqtt.HashPassword(*user, strings.TrimRight(string(b), "\r\n"))
	if err != nil {
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	fmt.Fprintln(stdout, line)
	return nil
}
