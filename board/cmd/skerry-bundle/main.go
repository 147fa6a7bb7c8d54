// Command skerry-bundle makes a signed update of the images of a board, and prints RAUC's configuration for it.
//
//	skerry-bundle -board NAME -version V -root ROOT.img -boot BOOT.img -out FILE.raucb [-keys DIR | -cert C -key K -keyring R [-chain I]]
//	skerry-bundle -board NAME -conf       what goes to /etc/rauc/system.conf
//
// Without -cert it signs with development keys, which it makes in -keys at the first time. `make bundle BOARD=NAME` calls it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/rauc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "skerry-bundle:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("skerry-bundle", flag.ContinueOnError)
	fs.SetOutput(stderr)
	b := rauc.Bundle{Build: time.Now().UTC().Format(time.RFC3339)}
	fs.StringVar(&b.Board, "board", "", "`name` of the board")
	dir := fs.String("boards", "", "`folder` of boards beside those that are built in")
	fs.StringVar(&b.Version, "version", "", "`version` of the system in the images")
	fs.StringVar(&b.Root, "root", "", "`image` of the root partition")
	fs.StringVar(&b.Boot, "boot", "", "`image` of the boot partition")
	out := fs.String("out", "", "the bundle's `file`")
	keys := fs.String("keys", "build/keys/updates", "`folder` of the development keys")
	fs.StringVar(&b.Keys.Cert, "cert", "", "`file` with the signer's certificate")
	fs.StringVar(&b.Keys.Key, "key", "", "`file` or PKCS#11 URL of its key")
	fs.StringVar(&b.Keys.Chain, "chain", "", "`file` with the certificates between the signer and the keyring")
	fs.StringVar(&b.Keys.Keyring, "keyring", "", "`file` with what gateways trust")
	conf := fs.Bool("conf", false, "print RAUC's configuration for the board")
	if err := fs.Parse(args); err != nil {
		return err
	}
	d, err := (&board.Library{Dir: *dir}).Load(b.Board)
	if err != nil {
		return err
	}
	text, err := rauc.SystemConf(d)
	if err != nil {
		return err
	}
	if *conf {
		_, err := io.WriteString(stdout, text)
		return err
	}
	if *out == "" || b.Root == "" || b.Boot == "" {
		return errors.New("-root, -boot and -out are needed")
	}
	if b.Keys.Cert == "" {
		if b.Keys, err = rauc.DevelopmentKeys(*keys, time.Now()); err != nil {
			return err
		}
		fmt.Fprintf(stderr, "signing with development keys of %s: gateways trust them only if their image was made with its keyring.pem\n", *keys)
	}
	if err := b.Make(ctx, *out); err != nil {
		return err
	}
	st, err := os.Stat(*out)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: version %s for %s, %.1f MB\n", *out, b.Version, rauc.Compatible(b.Board), float64(st.Size())/1e6)
	return nil
}
