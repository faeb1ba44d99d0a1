package rpc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"quorate.dev/quorate/rpc"
)

// TestCertificateCN: handlers see the name in a client's certificate when it was verified and the server is told to show
// names, and nothing otherwise.
func TestCertificateCN(t *testing.T) {
	server, alice := selfSigned(t), named(t, "alice")
	both := x509.NewCertPool()
	both.AddCert(server.Leaf)
	both.AddCert(alice.Leaf)
	for name, c := range map[string]struct {
		names bool
		auth  tls.ClientAuthType
		shown []tls.Certificate
		want  string
	}{
		"verified":     {true, tls.RequireAndVerifyClientCert, []tls.Certificate{alice}, "alice"},
		"not verified": {true, tls.RequestClientCert, []tls.Certificate{alice}, ""},
		"none":         {true, tls.VerifyClientCertIfGiven, nil, ""},
		"not wanted":   {false, tls.RequireAndVerifyClientCert, []tls.Certificate{alice}, ""},
	} {
		s, err := rpc.New(rpc.Config{CertificateNames: c.names})
		if err != nil {
			t.Fatal(err)
		}
		s.Unary("/t.T/Name", func(c *rpc.Call, _ []byte) { c.Reply(rpc.RawMessage(c.CertificateCN())) })
		s.Stream("/t.T/Names", func(st *rpc.Stream) *rpc.Status {
			if err := st.Send(rpc.RawMessage(st.CertificateCN())); err != nil {
				return asStatus(err)
			}
			return nil
		})
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: c.auth, ClientCAs: both, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		if got := askNames(t, l.Addr(), &tls.Config{RootCAs: both, Certificates: c.shown}); got != [2]string{c.want, c.want} {
			t.Errorf("%s: call and stream see %q, want %q", name, got, c.want)
		}
	}
	plain := start(t, rpc.Config{CertificateNames: true}, func(s *rpc.Server) {
		s.Unary("/t.T/Name", func(c *rpc.Call, _ []byte) { c.Reply(rpc.RawMessage("<" + c.CertificateCN() + ">")) })
	})
	if got, err := call(within(t), plain.dial(t), "/t.T/Name", nil); err != nil || string(got) != "<>" {
		t.Errorf("without TLS: %q, %v", got, err)
	}
}

// askNames asks a call and a stream for the client's name.
func askNames(t *testing.T, addr net.Addr, conf *tls.Config) (names [2]string) {
	t.Helper()
	cc, err := grpc.NewClient(addr.String(), grpc.WithTransportCredentials(credentials.NewTLS(conf)), grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	got, err := call(within(t), cc, "/t.T/Name", nil)
	if err != nil {
		t.Fatal(err)
	}
	st, err := cc.NewStream(within(t), &grpc.StreamDesc{ServerStreams: true}, "/t.T/Names")
	if err != nil {
		t.Fatal(err)
	}
	var streamed []byte
	if err := st.RecvMsg(&streamed); err != nil {
		t.Fatal(err)
	}
	return [2]string{string(got), string(streamed)}
}

// named makes a self-signed certificate for a client.
func named(t *testing.T, cn string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
