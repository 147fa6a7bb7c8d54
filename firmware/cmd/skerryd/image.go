package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/containerd"
	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/images"
	"github.com/skerry/skerry/firmware/pods"
)

// image is the verb for container images. It talks to the container runtime itself, so it works whether the agent runs or not.
func image(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] != "import" {
		return fmt.Errorf("usage: skerryd image import [-name NAME] [-platform OS/ARCH] FILE… (- is standard input): %w", errUsage)
	}
	fs, load := flags("image import", stderr)
	name := fs.String("name", "", "`name` for an image whose file gives none")
	platform := fs.String("platform", images.Host().String(), "which image of several to take")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return fmt.Errorf("which file? Give an OCI layout or the output of docker save, as a tar; - is standard input: %w", errUsage)
	}
	if *name != "" && fs.NArg() > 1 {
		return fmt.Errorf("-name is for one file: %w", errUsage)
	}
	p, err := images.ParsePlatform(*platform)
	if err != nil {
		return fmt.Errorf("-platform: %w: %w", err, errUsage)
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	rt := cri.New(cri.Options{Socket: cfg.Runtime.Endpoint})
	defer rt.Close()
	im := newImporter(cfg, rt)
	for _, file := range fs.Args() {
		if err := importFile(ctx, im, file, images.Options{Platform: p, Name: *name}, stdout); err != nil {
			return fmt.Errorf("import %s: %w", file, err)
		}
	}
	return nil
}

func newImporter(cfg config.Config, rt *cri.Client) *images.Importer {
	return &images.Importer{
		Runtime: rt, Store: containerd.New(rt), Spool: cfg.DataDir,
		Note: func(list map[string]string) error { return pods.NoteImported(cfg.Pods.RootDir, list) },
	}
}

func importFile(ctx context.Context, im *images.Importer, path string, o images.Options, stdout io.Writer) (err error) {
	f := os.Stdin
	if path != "-" {
		if f, err = os.Open(path); err != nil { //nolint:gosec // the operator's own file
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
	}
	list, err := im.Import(ctx, f, o)
	for _, img := range list {
		fmt.Fprintf(stdout, "imported %s (%s, %s, %.1f MiB)\n", img.Name, img.Platform, img.Target.Digest, float64(img.Size())/(1<<20))
	}
	return err
}
