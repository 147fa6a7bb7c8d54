package opcua

import (
	"context"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/opcua/structure"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// structures decodes the structures of one connection. It is safe for concurrent use.
type structures struct{ types *structure.Dictionary }

// asker carries out service requests in a client's session.
type asker struct{ c *client }

// Ask implements structure.Asker and browse.Asker.
func (a asker) Ask(ctx context.Context, req ua.Request) (any, error) { return a.c.call(ctx, req) }

func newStructures(c *client) *structures { return &structures{types: structure.New(asker{c})} }

// known tells whether JSON needs no answer of the server for a value. Structures within structures may have to be learnt later.
func (s *structures) known(v uabin.Variant) bool {
	for _, e := range encodingsOf(v, nil) {
		if !s.types.Knows(e) {
			return false
		}
	}
	return true
}

// JSON returns a value with structures as JSON. With a text, the error says what of it could not be decoded.
func (s *structures) JSON(ctx context.Context, v uabin.Variant) (string, error) {
	var text []byte
	var err error
	for range maxRounds {
		text, err = s.types.Append(nil, v)
		var missing *structure.MissingError
		if !errors.As(err, &missing) {
			break
		}
		if err := s.types.Learn(ctx, missing.Encodings...); err != nil {
			return "", fmt.Errorf("ask for the types of the value: %w", err)
		}
	}
	return string(text), err
}

// maxRounds is how often structures may turn up within structures that have just been learnt.
const maxRounds = 4

// maxEncodings limits how many types one value may have.
const maxEncodings = 64

// encodingsOf lists the encodings of the structures in a value.
func encodingsOf(v uabin.Variant, to []*ua.NodeID) []*ua.NodeID {
	switch x := v.V.(type) {
	case uabin.Extension:
		return appendEncoding(to, x)
	case []uabin.Extension:
		for _, e := range x {
			to = appendEncoding(to, e)
		}
	case uabin.DataValue:
		return encodingsOf(x.Value, to)
	case uabin.Variant:
		return encodingsOf(x, to)
	case []uabin.Variant:
		for _, e := range x {
			to = encodingsOf(e, to)
		}
	}
	return to
}

func appendEncoding(to []*ua.NodeID, x uabin.Extension) []*ua.NodeID {
	if x.Type == nil || x.Type.NodeID == nil || x.Encoding != ua.ExtensionObjectBinary || len(to) >= maxEncodings {
		return to
	}
	for _, e := range to {
		if e.String() == x.Type.NodeID.String() {
			return to
		}
	}
	return append(to, x.Type.NodeID)
}
