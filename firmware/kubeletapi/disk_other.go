//go:build !linux

package kubeletapi

import (
	"context"
	"errors"
	"time"
)

func diskStats(string, time.Time) *fsStats { return nil }

func inMemory(string) bool { return false }

func treeUsage(context.Context, string, int) (bytes, inodes uint64, err error) {
	return 0, 0, errors.ErrUnsupported
}
