// Package board is what Skerry knows of the hardware that it runs on. It is a contract: it imports nothing else of
// Skerry's, and what differs between boards is data here and not an if elsewhere.
//
// [Describe] reads the facts that a node reports about itself. It never fails: a gateway without a machine-id is still a
// gateway, and the field is then empty. All functions are safe for concurrent use. Tests read made-up /proc and /etc trees.
package board
