package certs

import (
	"crypto/x509"
	"time"

	"quorate.dev/quorate/limits"
)

// Expiry says until when something in a file is valid.
type Expiry struct {
	What     string    // "certificate", "client certificate", "CA" or "CRL"
	File     string    // where it is
	From, At time.Time // its beginning and its end; of a file with several, of the one that ends first
}

// Near reports whether the end is so near that somebody should do something: within limits.CertWarning, or within a third of
// its life when that is shorter, because what lives shortly is replaced late.
func (e *Expiry) Near(now time.Time) bool {
	return e.At.Sub(now) < min(limits.CertWarning, e.At.Sub(e.From)/3)
}

// Expiries says until when each file is valid. A list that names no time of its next edition is left out.
func (k *Keeper) Expiries() []Expiry {
	m := k.current()
	var out []Expiry
	if m.cert != nil {
		out = append(out, expiryOf("certificate", k.set.Cert, m.cert.Leaf))
	}
	if m.client != nil {
		out = append(out, expiryOf("client certificate", k.set.ClientCert, m.client.Leaf))
	}
	if len(m.cas) > 0 {
		out = append(out, expiryOf("CA", k.set.CA, m.cas...))
	}
	crl := Expiry{What: "CRL", File: k.set.CRL}
	for _, l := range m.lists {
		if !l.NextUpdate.IsZero() {
			crl.sooner(l.ThisUpdate, l.NextUpdate)
		}
	}
	if !crl.At.IsZero() {
		out = append(out, crl)
	}
	return out
}

func expiryOf(what, file string, all ...*x509.Certificate) Expiry {
	e := Expiry{What: what, File: file}
	for _, c := range all {
		e.sooner(c.NotBefore, c.NotAfter)
	}
	return e
}

func (e *Expiry) sooner(from, at time.Time) {
	if e.At.IsZero() || at.Before(e.At) {
		e.From, e.At = from, at
	}
}
