package certs

import (
	"crypto/x509"
	"time"
)

// Expiry says until when something in a file is valid.
type Expiry struct {
	What string    // "certificate", "client certificate", "CA" or "CRL"
	File string    // where it is
	At   time.Time // of a file with several, the first
}

// Expiries says until when each file is valid. A list that names no time of its next edition is left out.
func (k *Keeper) Expiries() []Expiry {
	m := k.current()
	var out []Expiry
	if m.cert != nil {
		out = append(out, Expiry{"certificate", k.set.Cert, m.cert.Leaf.NotAfter})
	}
	if m.client != nil {
		out = append(out, Expiry{"client certificate", k.set.ClientCert, m.client.Leaf.NotAfter})
	}
	if len(m.cas) > 0 {
		out = append(out, Expiry{"CA", k.set.CA, earliest(m.cas)})
	}
	var next time.Time
	for _, l := range m.lists {
		if !l.NextUpdate.IsZero() && (next.IsZero() || l.NextUpdate.Before(next)) {
			next = l.NextUpdate
		}
	}
	if !next.IsZero() {
		out = append(out, Expiry{"CRL", k.set.CRL, next})
	}
	return out
}

func earliest(certs []*x509.Certificate) time.Time {
	at := certs[0].NotAfter
	for _, c := range certs[1:] {
		if c.NotAfter.Before(at) {
			at = c.NotAfter
		}
	}
	return at
}
