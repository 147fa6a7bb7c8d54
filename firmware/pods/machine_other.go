//go:build !linux

package pods

import "errors"

// LocalMachine measures the machine that it runs on.
type LocalMachine struct {
	Dir  string // a folder on the file system that holds the pods
	Proc string // not used

	Groups Groups // not used
}

// Measure fails outside of Linux, where no pods run.
func (LocalMachine) Measure() (Measurement, error) { return Measurement{}, errors.ErrUnsupported }

func diskUsage(string) (total, free int64, err error) { return 0, 0, errors.ErrUnsupported }

func flushDisk(string) error { return errors.ErrUnsupported }

func fileSystem(string) (FileSystem, error) { return FileSystem{}, errors.ErrUnsupported }
