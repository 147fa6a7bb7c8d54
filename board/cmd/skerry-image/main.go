// Command skerry-image makes the flashable image of a board:
//
//	skerry-image -board qemu-armv7 -agent build/linux-armv7/skerryd -initrd build/linux-armv7/skerry-initrd -out build/images
//
// `make image BOARD=…` calls it. What it makes and how, board/image says; docs/flashing.md tells what to do with it.
package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/image"
	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/board/uboot"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "skerry-image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet("skerry-image", flag.ContinueOnError)
	name := fs.String("board", "", "`name` of the board")
	dir := fs.String("boards", "", "`folder` of further boards' files")
	agent := fs.String("agent", "", "skerryd for the board's architecture")
	initrd := fs.String("initrd", "", "skerry-initrd for the board's architecture")
	out := fs.String("out", "build/images", "`folder` in which the board's folder is made")
	unitDir := fs.String("units", "board/packages/systemd", "`folder` of the agent's units")
	keyring := fs.String("keyring", "", "`file` with the certificates that updates are signed by, PEM; default: a development key's, made in build/keys")
	signingKey := fs.String("key", "", "`file` with the Ed25519 key that signs the manifest, PEM; default: a development key, made in build/keys")
	figures := fs.String("figures", "", "`file` to which the image's size is written, JSON")
	cache := fs.String("cache", "", "`folder` of packages and unpacked kernels; default: cache in -out")
	version := fs.String("version", "unknown", "version of Skerry")
	lock := fs.String("lock", "", "lock `file` of an earlier image: the same packages")
	mirror := fs.String("mirror", "", "`URI` of a Debian mirror or archive; default: this machine's")
	if err := fs.Parse(args); err != nil {
		return err
	}
	d, err := board.Library{Dir: *dir}.Load(*name)
	if err != nil {
		return err
	}
	if *cache == "" {
		*cache = filepath.Join(*out, "cache")
	}
	for _, dir := range []*string{out, cache} { // apt takes other paths for its own
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
	}
	epoch, err := epoch()
	if err != nil {
		return err
	}
	units := map[string][]byte{}
	for _, name := range image.AgentUnits() {
		if units[name], err = os.ReadFile(filepath.Join(*unitDir, name)); err != nil {
			return err
		}
	}
	trusted, err := readKeyring(*keyring, stdout)
	if err != nil {
		return err
	}
	key, err := readKey(*signingKey, stdout)
	if err != nil {
		return err
	}
	b := image.Builder{
		Key:   key,
		Units: units, Keyring: trusted,
		Board: d, Out: filepath.Join(*out, d.Name), Cache: *cache, Agent: *agent, Initrd: *initrd, Script: uboot.Script(), Version: *version,
		Epoch: epoch, Lock: *lock, Mirror: *mirror, Say: stdout,
	}
	r, err := b.Build(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "    slot: %.1f MB (root %.1f, kernel %.1f, initrd %.1f)\n", mb(r.Sizes.Slot()), mb(r.Sizes.Root), mb(r.Sizes.Kernel), mb(r.Sizes.Initrd))
	fmt.Fprintf(stdout, "    %s\n", r.Disk)
	if *figures == "" {
		return nil
	}
	return record(*figures, d, r.Sizes)
}

// readKey returns the key that signs the manifest.
func readKey(file string, stdout io.Writer) (ed25519.PrivateKey, error) {
	if file != "" {
		return image.SigningKey(file)
	}
	const development = "build/keys/images/development.pem"
	fmt.Fprintf(stdout, "    WARNING: the manifest is signed with the development key of this folder (%s); give SIGN_KEY= for a product\n", development)
	return image.DevelopmentKey(development)
}

type figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// record adds what a slot of this image takes to a file of figures.
func record(file string, d *board.Descriptor, s image.Sizes) error {
	all := map[string]json.RawMessage{}
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &all); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	arch := d.Architectures[0]
	if arch == "arm" {
		arch = fmt.Sprintf("armv%d", d.GOARM)
	}
	b, err := json.Marshal(figure{mb(s.Slot()), "MB"})
	if err != nil {
		return err
	}
	all["image_"+arch+"_mb"] = b
	if b, err = json.MarshalIndent(all, "", "  "); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// readKeyring returns the certificates that the image takes updates from.
func readKeyring(file string, stdout io.Writer) ([]byte, error) {
	if file == "" {
		keys, err := rauc.DevelopmentKeys("build/keys/updates", time.Now())
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(stdout, "    WARNING: this image takes updates that are signed with the development key of this folder (build/keys/updates); give KEYRING= for a product")
		file = keys.Keyring
	}
	return os.ReadFile(file)
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// epoch is the time that everything in an image has.
func epoch() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q, and has to be the seconds since 1970 that the image's files get; `make image` takes the last commit's", text)
	}
	return time.Unix(n, 0).UTC(), nil
}
