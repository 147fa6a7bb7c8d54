//go:build !linux

package pods

import "errors"

// kernelMounter has no tmpfs outside of Linux; pods only run there.
type kernelMounter struct{}

// Tmpfs always fails.
func (kernelMounter) Tmpfs(string, int64) (bool, error) { return false, errors.ErrUnsupported }

// Bind always fails.
func (kernelMounter) Bind(string, string, bool) error { return errors.ErrUnsupported }

// Unmount has nothing to do.
func (kernelMounter) Unmount(string) error { return nil }

// Below has nothing to list.
func (kernelMounter) Below(string) ([]string, error) { return nil, nil }
