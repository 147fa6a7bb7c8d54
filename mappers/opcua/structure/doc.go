// Package structure decodes the structures of OPC UA servers into JSON, by the descriptions that the servers give of them (the
// DataTypeDefinition attribute, OPC 10000-3 section 8.48 ff., OPC UA 1.04).
//
// # Usage
//
//	d := structure.New(session)                     // one for each connection: namespace indexes may change between two
//	err := d.Learn(ctx, extension.Type.NodeID)      // asks the server, once for each type
//	text, err := d.Append(nil, variant)             // no I/O
//
// The JSON is that of OPC 10000-6 section 5.4 in its form for people: times are RFC 3339, bytes base64, an enumeration is "Running_1", a
// localized text its text. Unlike there 64-bit integers are numbers with all their digits, and what is not finite is null. Optional fields that are missing are left out,
// of a union there is only the field that is set. What cannot be decoded is {"typeId": …, "body": base64, "reason": …}: structures
// in XML, and those of servers that do not describe them.
//
// # Limits
//
// Types, fields, levels, steps and the length of the text are limited, and arrays are checked against the bytes that are left
// before memory is taken: neither a description nor a value of a hostile server can cost more than its own text.
//
// # Concurrency
//
// A Dictionary is safe for concurrent use. Learn blocks on the server; Append does not.
//
// # Testing
//
// A hand-written server describes types of each kind; bodies and descriptions are fuzzed together. hil-tests/opcua decodes the
// structures of node-opcua.
package structure
