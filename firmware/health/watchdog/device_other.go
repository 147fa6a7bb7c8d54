//go:build !linux

package watchdog

import "errors"

func openCalls(string) (calls, error) { return nil, errors.ErrUnsupported }
