package opcua

import (
	"context"
	"errors"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// caller carries out service requests in the current session.
type caller interface {
	call(ctx context.Context, req ua.Request) (any, error)
}

// structures decodes structures. It is safe for concurrent use.
type structures struct{}

func newStructures(int) *structures { return &structures{} }

// JSON returns a value with structures as JSON.
func (*structures) JSON(context.Context, caller, uabin.Variant) (string, error) {
	return "", errors.New("the value is a structure, which has no model type")
}

// known tells whether a value can be decoded without asking the server.
func (*structures) known(uabin.Variant) bool { return true }
