// Package source tells whom connections and requests are counted by, before anybody has proved who they are. Pure functions,
// for any number of goroutines.
//
//	limiter.allow(source.Of(r.RemoteAddr), time.Now())
package source

import (
	"net"
	"net/netip"
)

// Of returns what a remote address (host:port) is counted by: an IPv4 address, or the /64 of an IPv6 one, since a host has all of a
// /64 to choose from (RFC 4291 section 2.5.1). What is no address is returned as it is.
func Of(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() && !ip.IsLoopback() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
