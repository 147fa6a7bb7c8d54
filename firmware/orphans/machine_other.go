//go:build !linux

package orphans

import (
	"context"
	"errors"
)

// thisMachine runs no containers.
type thisMachine struct{}

func (thisMachine) shims(string) (map[string]int, error)              { return nil, nil }
func (thisMachine) endShim(int, string, string) error                 { return errors.ErrUnsupported }
func (thisMachine) namespaces(string) ([]string, error)               { return nil, nil }
func (thisMachine) removeNamespace(string, string) error              { return errors.ErrUnsupported }
func (thisMachine) attachments(network) ([]attachment, error)         { return nil, nil }
func (thisMachine) detach(context.Context, network, attachment) error { return errors.ErrUnsupported }
