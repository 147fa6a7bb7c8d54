// Package hub accepts agents: sockets, TLS, the registry of sessions, limits and metrics around relay/session.
package hub
