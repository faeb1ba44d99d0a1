package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Resolver looks up names; *net.Resolver is one.
type Resolver interface {
	LookupAddr(ctx context.Context, addr string) (names []string, err error)
	LookupHost(ctx context.Context, host string) (addrs []string, err error)
}

// errNotAllowed has etcd's words.
var errNotAllowed = errors.New("client certificate authentication failed")

// server is the configuration of one handshake with somebody who connects; remote is its address when the addresses in its
// certificate are to be checked, "" else.
func (k *Keeper) server(ctx context.Context, protocols []string, remote string) *tls.Config {
	m := k.current()
	c := &tls.Config{Certificates: []tls.Certificate{*m.cert}, NextProtos: protocols, Time: k.options.Clock.Now}
	k.set.Protocol.apply(c)
	if k.set.verifies() {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, m.pool
	}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if s.DidResume && k.set.verifies() {
			// A session remembers the judgement of its beginning, and so may the library: what counts is what holds now.
			if err := k.verifyAgain(m, &s); err != nil {
				return err
			}
		}
		if err := k.judge(m, &s); err != nil || remote == "" || len(s.PeerCertificates) == 0 {
			return err
		}
		return k.checkAddress(ctx, s.PeerCertificates[0], remote)
	}
	return c
}

// Client is the configuration of one connection to be made; it becomes old when files change. Those with the same
// certificates may be reached over several connections with the same configuration.
func (k *Keeper) Client() *tls.Config {
	m := k.current()
	c := &tls.Config{RootCAs: m.pool, ServerName: k.set.ServerName, InsecureSkipVerify: k.set.SelfMade, Time: k.options.Clock.Now} //nolint:gosec // see Settings.SelfMade
	k.set.Protocol.apply(c)
	if own := m.client; own != nil || m.cert != nil {
		if own == nil {
			own = m.cert
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	if !k.set.SelfMade {
		c.VerifyConnection = func(s tls.ConnectionState) error { return k.judge(m, &s) }
	}
	return c
}

// verifyAgain verifies the certificates of a resumed session as if it were new.
func (k *Keeper) verifyAgain(m *material, s *tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("tls: the resumed session has no certificate of the client")
	}
	o := x509.VerifyOptions{Roots: m.pool, Intermediates: x509.NewCertPool(), CurrentTime: k.options.Clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	chains, err := s.PeerCertificates[0].Verify(o)
	if err != nil {
		return fmt.Errorf("tls: the certificate of the resumed session is not valid any more: %w", err)
	}
	s.VerifiedChains = chains
	return nil
}

// judge decides about a connection whose certificates lead to a CA: they must not be revoked, and be among those allowed.
func (k *Keeper) judge(m *material, s *tls.ConnectionState) error {
	for _, c := range s.PeerCertificates {
		if err := m.revocation(c); err != nil {
			return err
		}
	}
	var err error
	chains := slices.DeleteFunc(slices.Clone(s.VerifiedChains), func(chain []*x509.Certificate) bool {
		for _, c := range chain {
			if bad := m.revocation(c); bad != nil {
				err = bad
				return true
			}
		}
		return false
	})
	if len(chains) == 0 && err != nil {
		return err
	}
	if len(k.set.AllowedCNs) == 0 && len(k.set.AllowedHostnames) == 0 {
		return nil
	}
	for _, chain := range chains {
		if len(chain) > 0 && k.allowed(chain[0]) {
			return nil
		}
	}
	return k.notAllowed(s)
}

func (k *Keeper) notAllowed(s *tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errNotAllowed
	}
	leaf := s.PeerCertificates[0]
	return fmt.Errorf("%w: the certificate of %q is for the hosts %q and addresses %v; allowed are the common names %q, the hosts %q",
		errNotAllowed, leaf.Subject.CommonName, leaf.DNSNames, leaf.IPAddresses, k.set.AllowedCNs, k.set.AllowedHostnames)
}

func (k *Keeper) allowed(leaf *x509.Certificate) bool {
	return slices.Contains(k.set.AllowedCNs, leaf.Subject.CommonName) ||
		slices.ContainsFunc(k.set.AllowedHostnames, func(host string) bool { return leaf.VerifyHostname(host) == nil })
}

// revocation is an error when the list has the serial number of c, whoever issued it, as with etcd.
func (m *material) revocation(c *x509.Certificate) error {
	if m.revoked[string(c.SerialNumber.Bytes())] {
		return fmt.Errorf("transport: certificate serial %x revoked (%q)", c.SerialNumber.Bytes(), c.Subject.String())
	}
	return nil
}

// checkAddress decides whether the owner of a certificate may call from remote: one of its addresses must be that, or one of
// its names must be a name of it. A certificate without any may be used everywhere.
func (k *Keeper) checkAddress(ctx context.Context, leaf *x509.Certificate, remote string) error {
	if len(leaf.IPAddresses) == 0 && len(leaf.DNSNames) == 0 {
		return nil
	}
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return err
	}
	if len(leaf.IPAddresses) > 0 {
		err := leaf.VerifyHostname(host)
		if err == nil || len(leaf.DNSNames) == 0 {
			return err
		}
	}
	ok, err := k.isNameOf(ctx, host, leaf.DNSNames)
	switch {
	case ok:
		return nil
	case err != nil:
		return fmt.Errorf("tls: %q does not match any of DNSNames %q (%w)", host, leaf.DNSNames, err)
	}
	return fmt.Errorf("tls: %q does not match any of DNSNames %q", host, leaf.DNSNames)
}

// isNameOf asks DNS for the names of host, then for the addresses of the names. Wildcards stand only for the former.
func (k *Keeper) isNameOf(ctx context.Context, host string, names []string) (bool, error) {
	found, err := k.options.Resolver.LookupAddr(ctx, host)
	for _, name := range found {
		name = strings.TrimSuffix(name, ".")
		for _, n := range names {
			if rest, wild := strings.CutPrefix(n, "*"); n == name || wild && strings.HasPrefix(rest, ".") && strings.HasSuffix(name, rest) {
				return true, nil
			}
		}
	}
	for _, n := range names {
		if strings.HasPrefix(n, "*.") {
			continue
		}
		addrs, failed := k.options.Resolver.LookupHost(ctx, n)
		if failed != nil {
			err = failed
		}
		if slices.Contains(addrs, host) {
			return true, nil
		}
	}
	return false, err
}
