// Package provision brings a new gateway to its installation without a keyboard: a technician puts a file, skerry-provision.yaml, on
// the partition "provision" of the gateway's disk or on a USB stick, and the gateway writes its configuration from it, joins, and erases
// the token.
//
//	err := provision.Run(ctx, provision.Options{Media: provision.NewMedia(), ...}) // what `skerryd provision` does
//
// Run blocks until the gateway has joined, and does at once nothing more than erase a left-over token on one that has. What went wrong, and what
// to do, stands on the console and in skerry-result.txt beside the file. The order makes a power cut at any moment harmless: configuration, identity (which
// [identity.Enroll] makes durable), then the token's letters are overwritten in place.
//
// A gateway that has joined takes no other file: whoever holds a stick cannot move it to a cluster of his own. A factory reset comes first (docs/flashing.md). One whose
// identity is damaged takes a token for the node that it is, and joins at the relays that it knows.
//
// Nothing here is for concurrent use. Tests use folders for media and a function for joining; the reader of the file is fuzzed.
package provision
