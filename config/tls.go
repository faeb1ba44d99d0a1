package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
)

// TLS says how connections are secured.
type TLS struct {
	Client, Peer  Security
	CipherSuites  []string // Go's names; empty for Go's choice
	Min, Max      string   // "TLS1.2" or "TLS1.3"; "" for the lowest supported, and for Go's latest
	SelfMadeYears uint64   // that certificates made for Security.Auto are valid
}

// Security names the certificates towards one kind of partners, and says whom of them to accept.
type Security struct {
	Cert, Key        string // shown to those who connect
	OwnCert, OwnKey  string // shown when connecting, when it is another one
	CA, CRL          string // certificates that others' must lead to, and those revoked
	Auth             bool   // others must show a certificate, whose common name counts as a user's
	Auto             bool   // a certificate is made when there is none
	AllowedCNs       []string
	AllowedHostnames []string
	SkipAddresses    bool // do not compare the addresses in others' certificates with where they call from
}

// given reports whether there is a certificate to listen with.
func (s *Security) given() bool { return s.Cert != "" || s.Key != "" }

// makes reports whether a certificate is made.
func (s *Security) makes() bool { return s.Auto && !s.given() }

// Secure reports whether connections to an address use TLS.
func Secure(u url.URL) bool { return u.Scheme == "https" || u.Scheme == "unixs" }

func anySecure(lists ...[]url.URL) bool {
	return slices.ContainsFunc(slices.Concat(lists...), Secure)
}

// checkTLS checks what can be said without opening a file, in etcd's words where it has some.
func (c *Config) checkTLS() error {
	t := &c.TLS
	for _, v := range [][2]string{{"tls-min-version", t.Min}, {"tls-max-version", t.Max}} {
		if !slices.Contains([]string{"", "TLS1.2", "TLS1.3"}, v[1]) {
			return fmt.Errorf("--%s: unexpected TLS version %q (must be one of: TLS1.2, TLS1.3)", v[0], v[1])
		}
	}
	switch {
	case t.Max != "" && t.Min > t.Max:
		return fmt.Errorf("min version (%s) is greater than max version (%s)", t.Min, t.Max)
	case t.Min == "TLS1.3" && len(t.CipherSuites) > 0:
		return errors.New("cipher suites cannot be configured when only TLS1.3 is enabled")
	case (t.Client.makes() || t.Peer.makes()) && t.SelfMadeYears == 0:
		return errors.New("--self-signed-cert-validity: selfSignedCertValidity is invalid,it should be greater than 0")
	}
	if err := t.Client.check("", anySecure(c.Listen.Client, c.Listen.ClientHTTP, c.Listen.Metrics)); err != nil {
		return err
	}
	if err := t.Peer.check("peer-", true); err != nil {
		return err
	}
	if err := c.checkSecureURLs(); err != nil {
		return err
	}
	return t.Peer.checkAuto()
}

// check looks for what contradicts itself; used says that the certificates are.
func (s *Security) check(prefix string, used bool) error {
	own := prefix + "client-"
	switch {
	case used && (s.Cert == "") != (s.Key == ""):
		return fmt.Errorf("--%scert-file, --%skey-file: KeyFile and CertFile must both be present[key: %v, cert: %v]", prefix, prefix, s.Key, s.Cert)
	case used && (s.OwnCert == "") != (s.OwnKey == ""):
		return fmt.Errorf("--%scert-file, --%skey-file: ClientKeyFile and ClientCertFile must both be present or both absent: key: %v, cert: %v]", own, own, s.OwnKey, s.OwnCert)
	case len(s.AllowedCNs) > 0 && len(s.AllowedHostnames) > 0:
		return fmt.Errorf("AllowedCNs and AllowedHostnames are mutually exclusive (cns=%q, hostnames=%q)", s.AllowedCNs, s.AllowedHostnames)
	}
	return nil
}

// checkSecureURLs: an address with TLS needs a certificate.
func (c *Config) checkSecureURLs() error {
	client, peer := c.TLS.Client.given() || c.TLS.Client.Auto, c.TLS.Peer.given() || c.TLS.Peer.Auto
	for _, u := range c.Listen.Peer {
		if Secure(u) && !peer {
			return fmt.Errorf("--listen-peer-urls: cannot listen on TLS for %s: KeyFile and CertFile are not presented; give --peer-cert-file and --peer-key-file, or --peer-auto-tls", u.Host)
		}
	}
	for _, u := range slices.Concat(c.Listen.Client, c.Listen.ClientHTTP) {
		if Secure(u) && !client {
			return fmt.Errorf("TLS key/cert (--cert-file, --key-file) must be provided for client url %s with HTTPS scheme", u.String())
		}
	}
	for _, u := range c.Listen.Metrics {
		if Secure(u) && !client {
			return errors.New("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")
		}
	}
	return nil
}

// checkAuto refuses to look safer than it is: nobody can verify what members make for themselves.
func (s *Security) checkAuto() error {
	if s.makes() && (s.Auth || s.CA != "" || len(s.AllowedCNs) > 0 || len(s.AllowedHostnames) > 0 || s.CRL != "") {
		return errors.New("--peer-auto-tls makes certificates that other members cannot verify, so it cannot be combined with --peer-client-cert-auth, " +
			"--peer-trusted-ca-file, --peer-crl-file or allowed names: give --peer-cert-file and --peer-key-file, or remove these settings")
	}
	return nil
}

// tlsNotes say which settings of TLS do nothing, for the log.
func (c *Config) tlsNotes() (notes []Note) {
	warn := func(message string, fields ...[2]string) {
		notes = append(notes, Note{Warn: true, Message: message, Fields: fields})
	}
	for _, side := range []struct {
		s    *Security
		urls []url.URL
		kind string
		flag string
	}{
		{&c.TLS.Client, slices.Concat(c.Listen.Client, c.Listen.ClientHTTP), "client", ""}, {&c.TLS.Peer, c.Listen.Peer, "peer", "peer-"},
	} {
		if side.s.Auto && side.s.given() {
			warn("ignoring " + side.kind + " auto TLS since certs given")
		}
		for _, u := range side.urls {
			if Secure(u) {
				continue
			}
			scheme := [2]string{side.kind + "-url", u.String()}
			if side.s.given() {
				warn("scheme is http or unix while key and cert files are present; ignoring key and cert files", scheme)
			}
			if side.s.Auth {
				warn("scheme is http or unix while --"+side.flag+"client-cert-auth is enabled; ignoring client cert auth for this URL", scheme)
			}
		}
	}
	return notes
}
