package cri

import "github.com/skerry/skerry/firmware/grpcwire"

// Message is a CRI message.
type Message = grpcwire.Message

// Marshal returns m in protobuf's encoding.
func Marshal(m Message) []byte { return grpcwire.Marshal(m) }

// Unmarshal decodes data into m, merging with what m holds, within limits (package grpcwire).
func Unmarshal(data []byte, m Message) error { return grpcwire.Unmarshal(data, m) }
