package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// access is how clients reach a server, and as whom. The zero value is plain TCP as nobody.
type access struct {
	server []string    // flags of the server
	lean   []string    // flags of the lean client
	tls    *tls.Config // of grpc-go's clients; nil: plain TCP
	token  string      // of Authenticate, sent with every call; "": none
}

func (a *access) scheme() string {
	if a.tls == nil {
		return "http://"
	}
	return "https://"
}

// options are those of every connection.
func (a *access) options() []grpc.DialOption {
	transport := insecure.NewCredentials()
	if a.tls != nil {
		transport = credentials.NewTLS(a.tls)
	}
	out := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if a.token != "" {
		out = append(out, grpc.WithPerRPCCredentials(bearer{"token": a.token}))
	}
	return out
}

// bearer is the metadata that names the user, as etcd's clients send it.
type bearer map[string]string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return b, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// plainAccess is what suites have that do not say otherwise.
func plainAccess(string) (*access, error) { return &access{}, nil }

// passwordAccess has the cost of a password written down, so that it is the same for both servers.
func passwordAccess(string) (*access, error) {
	return &access{server: []string{"--bcrypt-cost", "10"}}, nil
}

// certificateAccess makes an authority, a certificate of the server and one of a client whose common name is the user, under
// dir, and has either side verify the other.
func certificateAccess(dir string) (*access, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	server, err := ca.issue("server")
	if err != nil {
		return nil, err
	}
	client, err := ca.issue(userName(0))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		err = errors.Join(err, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	const certificate, key = "CERTIFICATE", "PRIVATE KEY"
	caFile := write("ca.pem", certificate, ca.cert.Raw)
	a := &access{
		server: []string{"--cert-file", write("server.pem", certificate, server.der), "--key-file", write("server.key", key, server.pkcs8),
			"--client-cert-auth", "--trusted-ca-file", caFile},
		lean: []string{"--cacert", caFile, "--cert", write("client.pem", certificate, client.der), "--key", write("client.key", key, client.pkcs8)},
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	a.tls = &tls.Config{RootCAs: roots, ServerName: serverHost, MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{client.der}, PrivateKey: client.key}}}
	return a, err
}

// serverHost is where all servers listen.
const serverHost = "127.0.0.1"

// authority signs certificates for the time of a run.
type authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	issued int64
}

// pair is a certificate with its key.
type pair struct {
	der, pkcs8 []byte
	key        *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert: cert, key: key, issued: 1}, err
}

// issue signs a certificate that is good for servers on serverHost and for clients.
func (a *authority) issue(name string) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a.issued++
	template := &x509.Certificate{SerialNumber: big.NewInt(a.issued), Subject: pkix.Name{CommonName: name},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.ParseIP(serverHost)}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	return &pair{der: der, pkcs8: pkcs8, key: key}, err
}
