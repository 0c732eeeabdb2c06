package connlimit

import "net/netip"

// Loopback tells whether the host, a name or an address, is this very machine for
// whoever uses it: nobody else reaches it, and nobody stands in between.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
