package connlimit

import "net/netip"

// Loopback reports whether the host, a name or an address, can be reached from this
// machine only, so that no other machine can read or change what is sent.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
