// Package link is the agent's end of the connection to its relay.
package link
