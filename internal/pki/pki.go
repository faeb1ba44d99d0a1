// Package pki makes certificates for tests: authorities, intermediate ones, certificates with any flaw that a test needs, and
// revocation lists, as values and as files.
//
// It is not for anything but tests: its keys are as small as they may be.
//
// How data passes: an Authority signs; what it signs is a Pair, which is written to a directory or used as it is.
//
// Invariants: two certificates of one process never have the same serial number.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// T is the part of testing.TB that is used here.
type T interface {
	Helper()
	Fatal(args ...any)
}

var serial atomic.Int64

// Authority signs certificates.
type Authority struct {
	t     T
	Cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain [][]byte // its own certificate and those above, without the root; empty for a root
	now   time.Time
}

// Pair is a certificate with its key.
type Pair struct {
	t    T
	Leaf *x509.Certificate
	key  *ecdsa.PrivateKey
	der  [][]byte // leaf first
}

// New makes a root authority; certificates are valid from an hour before now to a day after unless a test changes that.
func New(t T, name string, now time.Time) *Authority {
	t.Helper()
	template := authority(name, now)
	key, cert := sign(t, template, template, nil)
	return &Authority{t: t, Cert: cert, key: key, now: now}
}

func authority(name string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
}

// Intermediate makes an authority signed by a.
func (a *Authority) Intermediate(name string) *Authority {
	a.t.Helper()
	key, cert := sign(a.t, authority(name, a.now), a.Cert, a.key)
	return &Authority{t: a.t, Cert: cert, key: key, chain: append([][]byte{cert.Raw}, a.chain...), now: a.now}
}

// Issue makes a certificate for name that is good for servers and clients, for localhost and its addresses, as changed by edit
// (nil for none).
func (a *Authority) Issue(name string, edit func(*x509.Certificate)) *Pair {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name}, NotBefore: a.now.Add(-time.Hour), NotAfter: a.now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if edit != nil {
		edit(template)
	}
	key, cert := sign(a.t, template, a.Cert, a.key)
	return &Pair{t: a.t, Leaf: cert, key: key, der: append([][]byte{cert.Raw}, a.chain...)}
}

// sign makes a certificate; without a parent's key it is self-signed.
func sign(t T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// Pool has the authorities only.
func Pool(as ...*Authority) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, a := range as {
		pool.AddCert(a.Cert)
	}
	return pool
}

// Bundle is the PEM form of the authorities.
func Bundle(as ...*Authority) []byte {
	var out []byte
	for _, a := range as {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Cert.Raw})...)
	}
	return out
}

// Revoke makes a revocation list of the authority, in DER form.
func (a *Authority) Revoke(revoked ...*x509.Certificate) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(serial.Add(1)), ThisUpdate: a.now.Add(-time.Minute), NextUpdate: a.now.Add(24 * time.Hour)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: a.now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// TLS is the pair as package tls uses it.
func (p *Pair) TLS() tls.Certificate {
	return tls.Certificate{Certificate: p.der, PrivateKey: p.key, Leaf: p.Leaf}
}

// PEM is the certificate with those that lead to its root, and the key.
func (p *Pair) PEM() (cert, key []byte) {
	p.t.Helper()
	for _, der := range p.der {
		cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Write writes the pair as name.pem and name.key in dir, replacing files as one that renews certificates should: the new ones
// appear whole.
func (p *Pair) Write(dir, name string) (cert, key string) {
	p.t.Helper()
	c, k := p.PEM()
	return WriteFile(p.t, dir, name+".pem", c), WriteFile(p.t, dir, name+".key", k)
}

// WriteFile replaces a file in dir and returns its path.
func WriteFile(t T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}
