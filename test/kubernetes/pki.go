package kubernetes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// CA signs certificates and writes them, with their keys, as PEM files into one directory.
type CA struct {
	File string // its own certificate
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair is a certificate and its key: the files, and one file with both, as HAProxy wants it.
type Pair struct{ Cert, Key, Both string }

// NewCA makes an authority whose files are below dir and whose certificate is name.crt there.
func NewCA(dir, name string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &CA{dir: dir, key: key, File: filepath.Join(dir, name+".crt")}
	template := certificate(pkix.Name{CommonName: name})
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return ca, os.WriteFile(ca.File, encode("CERTIFICATE", der), 0o600)
}

// Issue makes a certificate for both ends of a connection with 127.0.0.1 and localhost as its names: file.crt, file.key and file.pem. name
// and groups are who a client is for Kubernetes.
func (ca *CA) Issue(file, name string, groups ...string) (Pair, error) {
	p := Pair{filepath.Join(ca.dir, file+".crt"), filepath.Join(ca.dir, file+".key"), filepath.Join(ca.dir, file+".pem")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return p, err
	}
	template := certificate(pkix.Name{CommonName: name, Organization: groups})
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses, template.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return p, err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return p, err
	}
	for name, text := range map[string][]byte{
		p.Cert: encode("CERTIFICATE", der), p.Key: encode("EC PRIVATE KEY", private),
		p.Both: append(encode("CERTIFICATE", der), encode("EC PRIVATE KEY", private)...),
	} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return p, err
		}
	}
	return p, nil
}

func certificate(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
