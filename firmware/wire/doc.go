// Package wire holds the messages between agent and relay and their codec: the one contract both sides share.
package wire
