package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// statusFile keeps the last status of a pod: its start time, its conditions' transition times, a final phase.
const statusFile = "status"

// What else is in a pod's folder.
const (
	volumesFolder    = "volumes"
	containersFolder = "containers"
	hostsName        = "etc-hosts"
	nextSuffix       = durable.Suffix
)

// loadStatus reads a pod's last status; nil if there is none. A damaged one is as good as none: what it holds can be
// made again, with later times.
func loadStatus(dir string) *corev1.PodStatus {
	b, err := os.ReadFile(filepath.Join(dir, statusFile))
	if err != nil {
		return nil
	}
	var r corev1.PodReport
	if rest, err := r.UnmarshalMsg(b); err != nil || len(rest) != 0 || r.Status == nil {
		return nil
	}
	return r.Status
}

// saveStatus replaces a pod's last status. It is not synced: flash is a wear part, and the file may be lost without harm.
func saveStatus(dir string, s *corev1.PodStatus) error {
	return writeStatus(dir, s, replaceFile)
}

// syncStatus is saveStatus for one that must not be lost: it returns when the status is on the disk.
func syncStatus(dir string, s *corev1.PodStatus) error {
	if err := writeStatus(dir, s, durable.Replace); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil { // the folder may be new
		return fmt.Errorf("keep pod status: %w", err)
	}
	return nil
}

func writeStatus(dir string, s *corev1.PodStatus, replace func(path string, content []byte, mode os.FileMode) error) error {
	b, err := (&corev1.PodReport{Status: s}).MarshalMsg(nil)
	if err != nil {
		return fmt.Errorf("keep pod status: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("keep pod status: %w", err)
	}
	if err := replace(filepath.Join(dir, statusFile), b, 0o600); err != nil {
		return fmt.Errorf("keep pod status: %w", err)
	}
	return nil
}

// replaceFile writes a file so that readers see the old or the new content.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	if err := writeNext(path, content, mode); err != nil {
		return err
	}
	return os.Rename(path+nextSuffix, path)
}

func writeNext(path string, content []byte, mode os.FileMode) error {
	if err := os.WriteFile(path+nextSuffix, content, mode); err != nil {
		return err
	}
	return os.Chmod(path+nextSuffix, mode) // whatever the umask
}

// strayDirs lists the pod folders below dir whose UID is not known. Folders that hold anything else than a pod's things are
// not pod folders: whoever sets pods.rootDir to a folder of his own must not lose it.
func strayDirs(dir string, known func(uid string) bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for folders of pods that are gone: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && !known(e.Name()) && isPodDir(filepath.Join(dir, e.Name())) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// isPodDir reports whether a folder holds something, and nothing but what this package puts into a pod's folder.
func isPodDir(dir string) bool {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		switch e.Name() {
		case statusFile, statusFile + nextSuffix, idsFile, idsFile + nextSuffix, activeFile, activeFile + nextSuffix, volumesFolder, containersFolder, subPathsFolder, hostsName:
		default:
			return false
		}
	}
	return err == nil && len(entries) > 0
}
