package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"quorate.dev/quorate/config"
)

// endpoint is one bound address.
type endpoint struct {
	net.Listener
	url url.URL // as configured, with the real port when 0 was asked for
}

// listeners are all bound addresses, by what they serve.
type listeners struct {
	peer, client, clientHTTP, metrics []*endpoint
}

// listenAll binds everything before anything starts, so that a taken port costs nothing.
func listenAll(l config.Listen) (all listeners, err error) {
	defer func() {
		if err != nil {
			all.Close()
		}
	}()
	for _, part := range []struct {
		flag string
		urls []url.URL
		into *[]*endpoint
	}{
		{"listen-peer-urls", l.Peer, &all.peer}, {"listen-client-urls", l.Client, &all.client},
		{"listen-client-http-urls", l.ClientHTTP, &all.clientHTTP}, {"listen-metrics-urls", l.Metrics, &all.metrics},
	} {
		for _, u := range part.urls {
			e, err := listen(u, l)
			if err != nil {
				return all, fmt.Errorf("--%s: %w", part.flag, err)
			}
			*part.into = append(*part.into, e)
		}
	}
	return all, nil
}

func listen(u url.URL, l config.Listen) (*endpoint, error) {
	if u.Scheme == "unix" {
		return listenUnix(u)
	}
	lc := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error { return socketOptions(conn, l) }}
	ln, err := lc.Listen(context.Background(), "tcp", u.Host)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("address %s is in use by another process: stop it, or listen elsewhere: %w", u.Host, err)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w", u.String(), err)
	}
	if u.Port() == "0" {
		_, port, err := net.SplitHostPort(ln.Addr().String())
		if err != nil {
			panic(fmt.Sprintf("BUG: address of a TCP listener: %v", err))
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return &endpoint{Listener: ln, url: u}, nil
}

// listenUnix removes a socket file that nobody answers on, which a killed process leaves behind.
func listenUnix(u url.URL) (*endpoint, error) {
	path := config.SocketPath(u)
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("socket %s is in use by another process: stop it, or listen elsewhere", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("cannot remove the abandoned socket %s: %w", path, err)
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", u.String(), err)
	}
	return &endpoint{Listener: ln, url: u}, nil
}

func socketOptions(conn syscall.RawConn, l config.Listen) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		for option, wanted := range map[int]bool{unix.SO_REUSEPORT: l.ReusePort, unix.SO_REUSEADDR: l.ReuseAddress} {
			if wanted && failed == nil {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 1)
			}
		}
	})
	return errors.Join(err, failed)
}

// Close closes every address; those that serve are closed by their servers too, which does no harm.
func (l *listeners) Close() {
	for _, part := range [][]*endpoint{l.peer, l.client, l.clientHTTP, l.metrics} {
		for _, e := range part {
			_ = e.Close()
		}
	}
}

// urlsOf lists the addresses as bound.
func urlsOf(part []*endpoint) []string {
	out := make([]string, len(part))
	for i, e := range part {
		out[i] = e.url.String()
	}
	return out
}

// boundURLs are the addresses as bound.
func boundURLs(part []*endpoint) []url.URL {
	out := make([]url.URL, len(part))
	for i, e := range part {
		out[i] = e.url
	}
	return out
}
