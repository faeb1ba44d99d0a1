package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"quorate.dev/quorate/certs"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/internal/pki"
	"quorate.dev/quorate/limits"
)

// patience bounds waiting for something that must happen.
const patience = 2 * time.Minute

// site is a listener with the files it uses, a root and an intermediate authority.
type site struct {
	t           *testing.T
	dir         string
	clock       *clock.Manual
	root, inter *pki.Authority
	set         certs.Settings
	keeper      *certs.Keeper
	addr        string

	mu       sync.Mutex
	rejected []certs.Rejection
	failed   []error
	reloaded [][]string
	told     chan struct{} // gets a token with each of these
}

func newSite(t *testing.T) *site {
	now := time.Now()
	s := &site{t: t, dir: t.TempDir(), clock: clock.NewManual(now), root: pki.New(t, "root", now), told: make(chan struct{}, 1<<16)}
	s.inter = s.root.Intermediate("intermediate")
	s.set.Cert, s.set.Key = s.inter.Issue("server", nil).Write(s.dir, "server")
	s.set.CA = pki.WriteFile(t, s.dir, "ca.pem", pki.Bundle(s.root))
	return s
}

func (s *site) options() certs.Options {
	note := func(f func()) {
		s.mu.Lock()
		f()
		s.mu.Unlock()
		s.told <- struct{}{}
	}
	return certs.Options{
		Clock:    s.clock,
		Rejected: func(r certs.Rejection) { note(func() { s.rejected = append(s.rejected, r) }) },
		Failed:   func(err error) { note(func() { s.failed = append(s.failed, err) }) },
		Reloaded: func(files []string) { note(func() { s.reloaded = append(s.reloaded, files) }) },
	}
}

// listen serves an echo over TLS until the test ends.
func (s *site) listen(options certs.Options, addresses bool) {
	s.t.Helper()
	var err error
	if s.keeper, err = certs.New(s.set, options); err != nil {
		s.t.Fatal(err)
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	l := s.keeper.Listen(raw, []string{"h2", "http/1.1"}, addresses)
	s.addr = raw.Addr().String()
	s.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
}

// later moves the clock so that the next handshake looks at the files.
func (s *site) later() { s.clock.Advance(limits.CertLook) }

// talk connects with a configuration and exchanges a word. The refusal of a client's certificate is only seen then.
func (s *site) talk(conf *tls.Config) (tls.ConnectionState, error) {
	s.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.addr, conf)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	if _, err = c.Write([]byte("word")); err == nil {
		_, err = io.ReadFull(c, make([]byte, 4))
	}
	return c.ConnectionState(), err
}

// client is a configuration that trusts the root and shows a certificate of the intermediate.
func (s *site) client(name string, edit func(*x509.Certificate)) *tls.Config {
	return &tls.Config{RootCAs: pki.Pool(s.root), Certificates: []tls.Certificate{s.inter.Issue(name, edit).TLS()}}
}

// await waits until cond, which is called with what was told so far, holds.
func (s *site) await(what string, cond func() bool) {
	s.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		s.mu.Lock()
		ok := cond()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-s.told:
		case <-limit.C:
			s.t.Fatalf("waited %v for %s; rejected: %v, failed: %v", patience, what, s.rejected, s.failed)
		}
	}
}
