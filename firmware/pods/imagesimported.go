package pods

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/durable"
)

// importedFile lists the images that were imported on this gateway, below Options.Dir: they might be impossible to get again, so they are
// never removed, even if this agent has pulled them once.
const importedFile = "images-imported.json"

// NoteImported adds images (id at the runtime → name, for people) to the list of those that are never removed. dir is Options.Dir. It may
// be called by another process than the agent.
func NoteImported(dir string, images map[string]string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, importedFile+".lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own folder
	if err != nil {
		return fmt.Errorf("lock the list of imported images: %w", err)
	}
	defer lock.Close()                                               //nolint:errcheck // nothing was written
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { //nolint:gosec // a descriptor fits
		return fmt.Errorf("lock the list of imported images: %w", err)
	}
	all, err := importedImages(dir)
	if err != nil {
		return err
	}
	for id, name := range images {
		all[id] = name
	}
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := durable.Replace(filepath.Join(dir, importedFile), b, 0o600); err != nil {
		return fmt.Errorf("write the list of imported images: %w", err)
	}
	return nil
}

// importedImages reads that list.
func importedImages(dir string) (map[string]string, error) {
	all := map[string]string{}
	b, err := os.ReadFile(filepath.Join(dir, importedFile)) //nolint:gosec // our own folder
	if errors.Is(err, os.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("the list of imported images %s cannot be read, so no image is removed: remove the file if it is damaged, and import the images again: %w",
			filepath.Join(dir, importedFile), err)
	}
	return all, nil
}
