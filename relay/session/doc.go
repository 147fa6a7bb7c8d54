// Package session is the relay's end of one agent's session, as a machine without I/O.
package session
