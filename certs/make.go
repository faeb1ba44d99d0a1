package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Made is a certificate that Make made, or found.
type Made struct {
	Cert, Key string    // files
	Fresh     bool      // they were made now
	NotAfter  time.Time // of a fresh one
}

// Make makes a self-signed certificate for hosts (names or addresses) in dir, valid for years from now on, unless there is
// one: the same key, cert.pem and key.pem, as etcd makes.
func Make(dir string, hosts []string, years uint64, now time.Time) (Made, error) {
	m := Made{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	if years == 0 || years > yearsMost {
		return m, fmt.Errorf("selfSignedCertValidity is invalid,it should be greater than 0 (and at most %d): %d", yearsMost, years)
	}
	for _, name := range []string{m.Cert, m.Key} {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			m.Fresh = true
		} else if err != nil {
			return m, err
		}
	}
	if !m.Fresh {
		return m, nil
	}
	m.NotAfter = now.Add(time.Duration(years) * 365 * 24 * time.Hour)
	cert, key, err := selfSigned(hosts, now, m.NotAfter)
	if err != nil {
		return m, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return m, err
	}
	return m, errors.Join(replace(m.Key, key, 0o600), replace(m.Cert, cert, 0o644))
}

// yearsMost keeps the end within what a duration can hold.
const yearsMost = 200

func selfSigned(hosts []string, from, to time.Time) (cert, key []byte, err error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, nil, err
	}
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"etcd"}}, NotBefore: from, NotAfter: to,
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != "" {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	private, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), nil
}

// replace writes a file so that it is there whole or not at all.
func replace(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close(), os.Rename(name+".new", name))
}
