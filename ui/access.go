package ui

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Access says who gets the page. The zero value is for requests from this machine only.
type Access struct {
	Everywhere bool // on all addresses, and under every name that the endpoint answers to
}

// refusal is the answer to a request that does not get the page.
type refusal struct {
	code int
	why  string
}

// check returns nil for a request that gets the page.
//
// On the loopback interface a browser may ask because a page from elsewhere made it: its author points a name of his own at
// 127.0.0.1. Such a request names him in Host, hence only names of this machine are answered.
func (a Access) check(r *http.Request) *refusal {
	switch {
	case a.Everywhere:
		return nil
	case !local(r):
		return &refusal{http.StatusForbidden, "The web page of this member is only for requests that arrive on a loopback address.\n\n" +
			"Forward a port to it (ssh -L 2379:127.0.0.1:2379 HOST, or kubectl port-forward POD 2379) and open http://localhost:2379/ui,\n" +
			"or serve it on all client addresses: --ui=on. Without authentication, everybody who reaches them can then read all keys in a browser."}
	case !loopbackName(r.Host):
		return &refusal{http.StatusMisdirectedRequest, fmt.Sprintf("The web page of this member does not answer to the host name %q, only to localhost and loopback addresses:\n"+
			"this protects browsers on this machine from DNS rebinding. Open it as localhost, or start the server with --ui=on.", r.Host)}
	}
	return nil
}

// local reports whether a request came in on a loopback address or a socket of the file system.
func local(r *http.Request) bool {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false // unknown
}

// loopbackName reports whether a Host header names the machine itself. No name server is asked for such names.
func loopbackName(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
