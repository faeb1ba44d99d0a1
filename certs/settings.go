package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// Settings say which files one side uses and whom it accepts. Files are in PEM form; a revocation list may also be in DER form.
type Settings struct {
	Cert, Key             string // shown to those who connect, and when connecting unless ClientCert is given
	ClientCert, ClientKey string // shown when connecting; both or neither
	CA                    string // certificates that others' must lead to; "" for the system's
	CRL                   string // serial numbers of revoked certificates; "" for none
	ClientAuth            bool   // those who connect must show a certificate; a CA means the same

	AllowedCNs       []string // common names of which others' certificates must have one; empty allows all
	AllowedHostnames []string // host names of which they must be valid for one; not together with AllowedCNs

	SelfMade   bool   // Cert is of Make: other members have such ones too, so none is verified when connecting
	ServerName string // what others' certificates must be valid for when connecting; "" for the host connected to
	Protocol
}

// Protocol says what is spoken. The zero value is TLS 1.2 and later with Go's choice of ciphers.
type Protocol struct {
	Ciphers  []uint16 // of TLS 1.2; empty for Go's choice
	Min, Max uint16   // versions as in crypto/tls; 0 for TLS 1.2 and for Go's latest
}

// Empty reports whether there is no certificate to listen with.
func (s *Settings) Empty() bool { return s.Cert == "" && s.Key == "" }

// Check says what contradicts itself, in etcd's words where it has some. It looks at no file.
func (s *Settings) Check() error {
	switch {
	case (s.Cert == "") != (s.Key == ""):
		return fmt.Errorf("KeyFile and CertFile must both be present[key: %v, cert: %v]", s.Key, s.Cert)
	case (s.ClientCert == "") != (s.ClientKey == ""):
		return fmt.Errorf("ClientKeyFile and ClientCertFile must both be present or both absent: key: %v, cert: %v]", s.ClientKey, s.ClientCert)
	case len(s.AllowedCNs) > 0 && len(s.AllowedHostnames) > 0:
		return fmt.Errorf("AllowedCNs and AllowedHostnames are mutually exclusive (cns=%q, hostnames=%q)", s.AllowedCNs, s.AllowedHostnames)
	}
	return nil
}

// verifies reports whether those who connect must show a certificate that is verified. A list of allowed names is of no use
// without.
func (s *Settings) verifies() bool {
	return s.ClientAuth || s.CA != "" || len(s.AllowedCNs) > 0 || len(s.AllowedHostnames) > 0
}

// otherSuites are names by which etcd knows suites besides Go's.
var otherSuites = map[string]uint16{
	"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}

// ParseProtocol reads what --cipher-suites, --tls-min-version and --tls-max-version say.
func ParseProtocol(suites []string, low, high string) (p Protocol, err error) {
	known := map[string]uint16{}
	for _, list := range [][]*tls.CipherSuite{tls.InsecureCipherSuites(), tls.CipherSuites()} {
		for _, s := range list {
			known[s.Name] = s.ID
		}
	}
	for _, name := range suites {
		id, ok := known[name]
		if !ok {
			id, ok = otherSuites[name]
		}
		if !ok {
			return p, fmt.Errorf("unexpected TLS cipher suite %q", name)
		}
		p.Ciphers = append(p.Ciphers, id)
	}
	if p.Min, err = parseVersion(low); err != nil {
		return p, err
	}
	if p.Max, err = parseVersion(high); err != nil {
		return p, err
	}
	switch {
	case p.Max != 0 && p.Min > p.Max:
		return p, fmt.Errorf("min version (%s) is greater than max version (%s)", low, high)
	case p.Min == tls.VersionTLS13 && len(suites) > 0:
		return p, errors.New("cipher suites cannot be configured when only TLS1.3 is enabled")
	}
	return p, nil
}

func parseVersion(text string) (uint16, error) {
	switch text {
	case "":
		return 0, nil
	case "TLS1.2":
		return tls.VersionTLS12, nil
	case "TLS1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("unexpected TLS version %q (must be one of: TLS1.2, TLS1.3)", text)
}

// apply fills in what both directions have in common.
func (p Protocol) apply(c *tls.Config) {
	c.MinVersion, c.MaxVersion, c.CipherSuites = max(p.Min, tls.VersionTLS12), p.Max, p.Ciphers
	// Records begin small by default, so that a browser can begin to show a page; here each costs a system call.
	c.DynamicRecordSizingDisabled = true
}
